"""The table of cases for NLDS' client: `tests/system/nlds_cases.yaml`, which describes itself."""

import json
import os
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.nlds import NldsClient

_TRANSFERS = frozenset({"put", "putlist", "get", "getlist"})
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Expectations of a row about an answer in JSON.
_IN_JSON = frozenset({"labels", "jobs", "found", "count"})
_USAGE = 2


@dataclass
class Section:
    """A section of the table: its folder, and its last transaction."""

    client: NldsClient
    name: str
    here: Path
    last: str = ""
    ended: Any = None
    ids: dict[str, int] = field(default_factory=dict)

    def prepare(self, given: list[str], outside: Path) -> None:
        """Create the files, and run what comes before the rows."""
        for folder in ("d/g", "out", "out2"):
            (self.here / folder).mkdir(parents=True)
        for number, name in enumerate(("a", "b", "c", "d/e", "d/f", "d/g/h", "ü 1%?.txt")):
            content = b"" if name == "c" else bytes([65 + number]) * (1024 * (number + 1))
            (self.here / name).write_bytes(content)
        (self.here / "a").chmod(0o640)
        (self.here / "link").symlink_to("a")
        (self.here / "elsewhere").symlink_to(outside)
        os.mkfifo(self.here / "pipe")
        for command in given:
            self.run(command)

    def check(self, row: dict[str, Any]) -> None:
        """Run the commands of a row, and compare what it expects of the last one."""
        lines = [self.text(line) for line in row.get("list", [])]
        (self.here / "list").write_text("".join(f"{line}\n" for line in lines))
        *before, last = [row["do"]] if isinstance(row["do"], str) else row["do"]
        for command in before:
            self.run(command)
        in_json = not _IN_JSON.isdisjoint(row)
        code, text = self.run(f"{last} -j" if in_json and "-j" not in last.split() else last)
        assert code == (_USAGE if "error" in row else 0), text
        assert self.text(row.get("error", "")) in " ".join(text.split())
        assert [each for each in map(self.text, row.get("prints", [])) if each not in text] == []
        assert row.get("silent", "never printed") not in text
        if in_json:
            self._check_answer(row, json.loads(text)["data"])
        if "state" in row:
            self._check_transaction(row)

    def _check_answer(self, row: dict[str, Any], data: Any) -> None:
        if "records" in data:
            found = [each["job_label"] for each in data["records"]]
        elif isinstance(data["holdings"], list):
            found = [each["label"] for each in data["holdings"]]
        else:
            transactions = [each for holding in data["holdings"].values() for each in holding["transactions"].values()]
            found = sorted(each["original_path"] for of in transactions for each in of["filelist"])
        expected = [self.text(each) for each in row.get("labels", row.get("jobs", []))]
        expected += [str(self.here / each) for each in row.get("found", [])]
        assert found == expected or len(found) == row.get("count"), found

    def _check_transaction(self, row: dict[str, Any]) -> None:
        done = self.ended
        assert done["state"] == row["state"], done
        assert done["percent"] == row.get("percent", done["percent"])
        reasons = {path.removeprefix(f"{self.here}/"): reason for path, reason in done["failed"].items()}
        expected = row.get("failed", {})
        assert sorted(reasons) == sorted(expected)
        assert [path for path, part in expected.items() if part not in reasons[path]] == [], reasons
        warnings = done["record"]["warnings"]
        assert len(warnings) == len(row.get("warnings", []))
        assert all(part in warning for part, warning in zip(row.get("warnings", []), warnings, strict=True))
        for name in row.get("written", []):
            self._check_written(self.here / name, Path(f"{self.here / row.get('target', 'out')}{self.here / name}"))

    def _check_written(self, original: Path, written: Path) -> None:
        if original.is_symlink():
            assert written.readlink() == original.readlink()
            return
        assert written.read_bytes() == original.read_bytes()
        about, expected = written.stat(), original.stat()
        assert (about.st_mode, about.st_mtime) == (expected.st_mode, expected.st_mtime)

    def text(self, text: str) -> str:
        """Return a text of the table with what its marks stand for."""
        marked = re.sub(r"#(\w+)", lambda match: str(self._holding(match[1])), text)
        return marked.replace("@", f"{self.name}-").replace("{here}", str(self.here)).replace("{last}", self.last)

    def run(self, command: str) -> tuple[int, str]:
        """Run a command; of one that transfers files, wait for the end."""
        words = shlex.split(self.text(command))
        code, text = self.client.run(self.here, *words)
        if code == 0 and words[0] in _TRANSFERS and (named := _UUID.search(text)):
            self.last = named[0]
            self.ended = self.client.wait(self.last)
        return code, text

    def _holding(self, label: str) -> int:
        if label in self.ids:
            return self.ids[label]
        code, text = self.client.run(self.here, "list", "-A", "-l", f"{self.name}-{label}", "-j")
        assert code == 0, text
        self.ids[label] = int(json.loads(text)["data"]["holdings"][0]["id"])
        return self.ids[label]

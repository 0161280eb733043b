"""Is what the project is made of pinned, and is anything known against it? That is what `make audit` asks.

Holds constraints.txt to what the extras of this environment really consist of, and asks pip-audit, where that is
installed, about known weaknesses. Exit status: 0 nothing found, 1 something found. What could not be asked is told as
SKIPPED, and is no success of the check: look again where pip-audit and its database can be reached.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
_PROJECT = "glitchflow-datastore"
_PIN = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[\w.+!-]+)(?:\s*;.*)?")
_PIP_AUDIT = [sys.executable, "-m", "pip_audit"]
_SECONDS = 300


def canonical(name: str) -> str:
    """Give a package's name as all its spellings are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(text: str) -> dict[str, str]:
    """Read `name==version` lines.

    Raises:
        ValueError: a line is something else, or a package comes twice.

    """
    pins: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        pin = _PIN.fullmatch(line.strip())
        if pin is None:
            raise ValueError(f"{line!r} pins nothing")
        name = canonical(pin["name"])
        if name in pins:
            raise ValueError(f"{name} is pinned twice")
        pins[name] = pin["version"]
    return pins


def installed_with(name: str, extra: str, seen: dict[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """Add the versions of everything that `name[extra]` consists of here to `seen`; for other platforms: nothing."""
    key = canonical(name), extra
    if key in seen:
        return seen
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return seen
    seen[key] = found.version
    for requirement in map(Requirement, found.requires or []):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            for wanted in {"", *requirement.extras}:
                installed_with(requirement.name, wanted, seen)
    return seen


def unpinned(pins: dict[str, str], extras: Sequence[str]) -> Iterator[str]:
    """Tell what the extras consist of and constraints.txt does not say, or says otherwise."""
    seen: dict[tuple[str, str], str] = {}
    for extra in extras:
        installed_with(_PROJECT, extra, seen)
    for name, version in sorted({(name, version) for (name, _), version in seen.items()}):
        if name != _PROJECT and pins.get(name) != version:
            yield f"{name} {version} is installed; constraints.txt says {pins.get(name, 'nothing of it')}"


def weaknesses(report: dict[str, Any]) -> Iterator[str]:
    """Tell what pip-audit found."""
    for package in report["dependencies"]:
        for known in package.get("vulns", []):
            mended = ", ".join(known["fix_versions"]) or "nothing yet"
            yield f"{package['name']} {package['version']}: {known['id']}, mended in {mended}"


def ask_pip_audit(command: Sequence[str], constraints: Path) -> dict[str, Any] | str:
    """Give pip-audit's report, or the reason why there is none."""
    asking = [*command, "--requirement", str(constraints), "--no-deps", "--disable-pip", "--format", "json"]
    try:
        asked = subprocess.run(asking, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    try:
        report: dict[str, Any] = json.loads(asked.stdout)
    except ValueError:
        told = asked.stderr.strip().splitlines() or [f"it ended with status {asked.returncode}"]
        return told[-1]
    return report


def main(command: Sequence[str] = _PIP_AUDIT) -> int:
    """Look, and tell."""
    pins = read_pins(CONSTRAINTS.read_text())
    found = list(unpinned(pins, ["all", "dev", "frames", "dask"]))
    report = ask_pip_audit(command, CONSTRAINTS)
    if isinstance(report, str):
        sys.stderr.write(f"SKIPPED: NOBODY WAS ASKED ABOUT KNOWN WEAKNESSES: {report}\n")
    else:
        found += weaknesses(report)
    for one in found:
        print(one)
    print(f"{len(pins)} pins, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

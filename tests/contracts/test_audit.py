"""constraints.txt pins every installed package; a lookup of vulnerabilities that was not possible is SKIPPED."""

import json
import sys
from pathlib import Path

import pytest

from tools import audit
from tools.audit import CONSTRAINTS, main, read_pins, run_pip_audit, unpinned, vulnerabilities

REPORT = {
    "dependencies": [
        {"name": "flask", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]},
        {"name": "click", "version": "8.3", "vulns": []},
        {"name": "gone", "skip_reason": "not on the index"},
    ]
}


def test_everything_that_is_installed_for_the_project_is_pinned_as_it_is() -> None:
    pins = read_pins(CONSTRAINTS.read_text())
    assert list(unpinned(pins, ["all", "dev", "frames", "dask"])) == []


def test_packages_without_a_pin_or_with_another_version_are_reported() -> None:
    pins = read_pins(CONSTRAINTS.read_text())
    del pins["msgspec"]
    pins["flask"] = "0.1"
    seen = "".join(unpinned(pins, ["dslogic"]))
    assert "msgspec" in seen
    assert "constraints.txt says 0.1" in seen


@pytest.mark.parametrize("line", ["flask>=3", "flask", "flask @ https://example.org/flask.whl", "-r other.txt"])
def test_a_line_that_pins_nothing_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="pins nothing"):
        read_pins(f"click==8.3\n{line}\n")
    with pytest.raises(ValueError, match="twice"):
        read_pins("a-b==1\nA_b==2\n")


def test_a_known_vulnerability_is_reported_with_the_version_that_fixes_it() -> None:
    assert list(vulnerabilities(REPORT)) == ["flask 1.0: PYSEC-1, fixed in 1.1"]


@pytest.mark.parametrize(
    ("program", "status", "seen"),
    [
        (f"print({json.dumps(json.dumps(REPORT))}); raise SystemExit(1)", 1, "PYSEC-1"),
        ("import sys; sys.exit('no such host')", 0, "SKIPPED"),
        ("raise SystemExit(3)", 0, "SKIPPED"),
    ],
    ids=["a vulnerability", "no network", "no pip-audit"],
)
def test_the_audit_fails_for_a_vulnerability_and_says_when_the_lookup_was_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], program: str, status: int, seen: str
) -> None:
    stand_in = tmp_path / "stand_in.py"
    stand_in.write_text(program)
    assert main([sys.executable, str(stand_in)]) == status
    output = capsys.readouterr()
    assert seen in output.out + output.err


def test_a_program_that_is_not_there_is_a_reason_and_no_crash() -> None:
    assert isinstance(run_pip_audit(["/nowhere/pip-audit"], audit.CONSTRAINTS), str)

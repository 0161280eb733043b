"""`make audit`: compare constraints.txt with the installed packages, and check them for known vulnerabilities.

Vulnerabilities are looked up by pip-audit if it is installed. Exit status: 0 nothing found, 1 something found. SKIPPED
means that the lookup was not possible: repeat the audit where pip-audit can reach its database.
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
    """Return the normalized name of a package (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(text: str) -> dict[str, str]:
    """Read `name==version` lines.

    Raises:
        ValueError: a line is something else, or a package is pinned twice.

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
    """Add the installed versions of `name[extra]` and all its requirements to `seen`, and return it."""
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
    """Yield a line for each package of the extras that is not pinned, or pinned to another version."""
    seen: dict[tuple[str, str], str] = {}
    for extra in extras:
        installed_with(_PROJECT, extra, seen)
    for name, version in sorted({(name, version) for (name, _), version in seen.items()}):
        if name != _PROJECT and pins.get(name) != version:
            yield f"{name} {version} is installed; constraints.txt says {pins.get(name, 'nothing')}"


def vulnerabilities(report: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each vulnerability that pip-audit found."""
    for package in report["dependencies"]:
        for known in package.get("vulns", []):
            fixed = ", ".join(known["fix_versions"]) or "no version yet"
            yield f"{package['name']} {package['version']}: {known['id']}, fixed in {fixed}"


def run_pip_audit(command: Sequence[str], constraints: Path) -> dict[str, Any] | str:
    """Return pip-audit's report, or the reason why there is none."""
    asking = [*command, "--requirement", str(constraints), "--no-deps", "--disable-pip", "--format", "json"]
    try:
        asked = subprocess.run(asking, capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    try:
        report: dict[str, Any] = json.loads(asked.stdout)
    except ValueError:
        lines = asked.stderr.strip().splitlines() or [f"it ended with status {asked.returncode}"]
        return lines[-1]
    return report


def main(command: Sequence[str] = _PIP_AUDIT) -> int:
    """Print the findings; return 1 if there are any."""
    pins = read_pins(CONSTRAINTS.read_text())
    found = list(unpinned(pins, ["all", "dev", "frames", "dask"]))
    report = run_pip_audit(command, CONSTRAINTS)
    if isinstance(report, str):
        sys.stderr.write(f"SKIPPED: KNOWN VULNERABILITIES WERE NOT CHECKED: {report}\n")
    else:
        found += vulnerabilities(report)
    for one in found:
        print(one)
    print(f"{len(pins)} pins, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

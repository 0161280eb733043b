"""The import rules of pyproject.toml, which `make check` applies, cover every module."""

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RULES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]


def contract(name: str) -> dict[str, Any]:
    (found,) = [each for each in RULES["contracts"] if each["name"] == name]
    return dict(found)


def modules_in(layers: list[str]) -> list[str]:
    return [name for layer in layers for name in re.findall(r"[\w.]+", layer)]


def test_every_package_has_a_layer_and_none_may_import_tests() -> None:
    packages = sorted({path.parent.name for path in ROOT.glob("[a-z]*/*.py")} - {"tests"})
    assert len(packages) >= 9
    assert sorted(RULES["root_packages"]) == packages
    assert sorted(modules_in(contract("A package imports only packages of lower layers")["layers"])) == packages
    assert sorted(contract("Nothing imports tests")["source_modules"]) == packages


def test_every_subpackage_of_the_buffer_has_a_layer() -> None:
    rule = contract("Ingest and storage do not import holdings, records, search or tiers")
    assert rule["containers"] == ["databuffer"]
    subpackages = {path.parent.name for path in (ROOT / "databuffer").glob("*/__init__.py")} - {"routes"}
    assert {"storage"} <= subpackages <= set(modules_in(rule["layers"]))


def test_the_whole_buffer_is_held_to_the_rule_on_web_frameworks() -> None:
    assert contract("Only the buffer's application and its routes import a web framework")["source_modules"] == [
        "databuffer"
    ]

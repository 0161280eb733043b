"""docs/api.md describes every field of a query, and the detectors."""

import json
import re
from pathlib import Path
from urllib.parse import parse_qsl

from gwwire.decoding import decode_order
from gwwire.detectors import DETECTORS
from gwwire.query import Query, parse_parameters, parse_words

SECTION = (Path(__file__).parents[2] / "docs" / "api.md").read_text().partition("## Queries\n")[2].partition("\n## ")[0]


def test_the_table_names_every_field() -> None:
    named = set(re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", SECTION, re.MULTILINE))
    assert {name for cell in named for name in re.findall(r"\w+", cell)} == set(Query.__struct_fields__)


def test_the_three_notations_are_the_same_query() -> None:
    as_json, parameters, words = re.findall(
        r"^- (?:JSON|parameters[^`]*|words[^`]*):\s+`([^`]*)`", SECTION, re.MULTILINE
    )
    query = decode_order(Query, as_json.encode())
    assert json.loads(as_json)["detector"] == list(query.detector)
    assert parse_parameters(parse_qsl(parameters)) == query == parse_words(words.replace("'", "").split())


def test_the_table_of_detectors_is_the_one_in_use() -> None:
    rows = re.findall(r"^\| (\w\d)(?: \(planned\))? \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", SECTION, re.MULTILINE)
    assert {name: tuple(attributes) for name, *attributes in rows} == DETECTORS

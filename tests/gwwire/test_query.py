"""Queries: one canonical form and one id, however they are written."""

import json
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwwire.decoding import InvalidRequest, decode_order
from gwwire.detectors import DETECTORS, describe, detector_of, detectors_with
from gwwire.problems import ProblemError
from gwwire.query import LISTS, Query, parse_parameters, parse_words, to_parameters
from gwwire.records import StepClaim

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
PRINTABLE = st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="*:<>=!"), min_size=1, max_size=9)
NAMES = PRINTABLE.filter(lambda name: name.isprintable())
TEXTS = st.one_of(NAMES, st.text(max_size=9), st.sampled_from(["0.5", "nan", '"a"', "true", "1e400", " ", "a\nb"]))


@st.composite
def comparisons(draw: st.DrawFn) -> dict[str, Any]:
    bounds = draw(st.dictionaries(st.sampled_from(["lt", "le", "gt", "ge"]), NUMBERS))
    return bounds | draw(st.dictionaries(st.sampled_from(["eq", "ne"]), NUMBERS | TEXTS, min_size=not bounds))


@st.composite
def queries(draw: st.DrawFn) -> dict[str, Any]:
    """Return a query as JSON holds it, with as little in canonical form as possible."""
    values: dict[str, st.SearchStrategy[Any]] = dict.fromkeys(LISTS, NAMES | st.lists(NAMES, max_size=3))
    values |= {name: NAMES | st.none() for name in ("run", "status")}
    values |= {"last": st.sampled_from([None, "sealed"]), "channel": st.sampled_from(["L1:*", ["H1:A*B*", "X:é"], []])}
    values |= {"start": NUMBERS | st.none(), "stop": NUMBERS | st.none()}
    values |= {"conditions": st.dictionaries(NAMES, comparisons(), max_size=3)}
    found = draw(st.fixed_dictionaries({}, optional=values))
    if None not in {found.get("start"), found.get("stop")} and found["start"] > found["stop"]:
        found["start"], found["stop"] = found["stop"], found["start"]
    return found


def query_of(content: Any) -> Query:
    return decode_order(Query, json.dumps(content).encode())


@given(queries(), st.randoms(use_true_random=False))
def test_the_id_does_not_depend_on_how_a_query_is_written(content: dict[str, Any], chance: Any) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shuffled(value[key]) for key in chance.sample(list(value), len(value))}
        if isinstance(value, list):
            return chance.sample(value * 2, len(value) * 2)
        return float(value) if isinstance(value, int) else value

    other = shuffled(dict.fromkeys(("run", "start", "status")) | {"conditions": {}, "batch": []} | content)
    one, two = query_of(content), decode_order(Query, json.dumps(other, indent=3).encode())
    assert (one, one.canonical(), one.id) == (two, two.canonical(), two.id)
    assert query_of(json.loads(one.canonical())) == one


@given(queries())
def test_json_url_and_command_line_are_the_same_query(content: dict[str, Any]) -> None:
    query = query_of(content)
    assert parse_parameters(parse_qsl(urlencode(to_parameters(query)), keep_blank_values=True)) == query
    words = (f"conditions.{text}" if name == "condition" else f"{name}={text}" for name, text in to_parameters(query))
    assert parse_words(words) == query


@given(queries(), queries())
def test_different_queries_never_share_an_id(one: dict[str, Any], two: dict[str, Any]) -> None:
    first, second = query_of(one), query_of(two)
    assert (first.id == second.id) == (first == second)


def test_the_canonical_form_and_its_id_do_not_change_between_releases() -> None:
    query = query_of({"stop": 20, "detector": "L1", "site": [], "conditions": {"temperature": {"lt": 0.02}}})
    assert query.canonical() == b'{"conditions":{"temperature":{"lt":0.02}},"detector":["L1"],"stop":20.0}'
    assert query.id == "f4e1f7ac5fed1e073ae9cedbf07d5a171ecd915c5e3768130ea287e7befc9504"
    assert query_of({"start": -0.0}).id == query_of({"start": 0}).id


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"start": 2, "stop": 1}, "start=2.0 is after stop=1.0"),
        ({"channel": "*a*b*"}, "at most 2 `*`"),
        ({"detector": "L*"}, "only `channel` takes wildcards"),
        ({"detector": "L1:A"}, "has a colon"),
        ({"batch": ["b", ""]}, "at least 1 character"),
        ({"facility": "a\nb"}, "control characters"),
        ({"detector": ["L1"] * 101}, "at most 100 items"),
        ({"conditions": {"t": {"lt": "warm"}}}, "expected `float"),
        ({"conditions": {"t": {"lt": True}}}, "expected `float"),
        ({"detektor": "L1"}, "unknown field"),
    ],
)
def test_a_query_that_cannot_be_meant_is_refused(content: Any, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason.replace("*", r"\*")):
        query_of(content)


@pytest.mark.parametrize("text", ['{"start": NaN}', '{"start": 1e400}', '{"conditions": {"t": {"lt": Infinity}}}'])
def test_numbers_that_float64_does_not_hold_are_refused(text: str) -> None:
    with pytest.raises(ProblemError):
        decode_order(Query, text.encode())


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["start=nan"], "start: expected GPS seconds, or UTC as 2015-09-14T09:50:45Z, got "),
        (["stop=soon"], "stop: expected GPS seconds, or UTC as 2015-09-14T09:50:45Z, got "),
        (["start=1_126_259_446"], "start: expected GPS seconds, or UTC as 2015-09-14T09:50:45Z, got "),
        (["t=1e999"], "'1e999' is too large for a number"),
        (["start=1", "start=2"], "start: given more than once"),
        (["start<5"], "start is a field; write start=VALUE, or conditions.start<5"),
        (["temperature"], "expected NAME<VALUE"),
        (["temperature<warm"], "'temperature<warm': 'warm' is not a number"),
        (["detectr=L1"], "detectr is not a field; write detector=L1, or conditions.detectr=L1"),
        (["channels=L1:A"], "write channel=L1:A"),
        (["t<1", "t<2"], "compared twice"),
        (["last=not a step"], "last"),
        (["detector="], "at least 1 character"),
    ],
)
def test_words_that_are_no_query_are_refused(words: list[str], reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason):
        parse_words(words)


def test_words_are_fields_or_conditions() -> None:
    words = ["detector=L1", "detector=H1", "start=1126259446", "conditions.temperature<0.02", "snr>8", 'veto!="1"']
    conditions = {"temperature": {"lt": 0.02}, "snr": {"gt": 8}, "veto": {"ne": "1"}}
    assert parse_words(words) == query_of({"start": 1126259446, "detector": ["H1", "L1"], "conditions": conditions})
    assert parse_words(["stop=2015-09-14T09:50:45Z"]) == query_of({"stop": 1126259462})
    assert parse_words(["conditions.start<5"]) == query_of({"conditions": {"start": {"lt": 5}}})


@pytest.mark.parametrize("text", ["22_000", "\N{ARABIC-INDIC DIGIT ONE}", "nan", "infinity", "0x10"])
def test_what_only_python_takes_for_a_number_is_a_text(text: str) -> None:
    query = query_of({"conditions": {"file": {"eq": text}}})
    assert parse_words([f"file={text}"]) == query
    assert to_parameters(query) == [("condition", f"file={text}")]


def test_other_parameters_of_a_route_are_ignored() -> None:
    assert parse_parameters([("limit", "5"), ("run", "O4")]) == query_of({"run": "O4"})


@pytest.mark.parametrize("conditions", [{"t": {}}, {"a<b": {"eq": 1}}])
def test_conditions_that_only_json_expresses_are_refused_elsewhere(conditions: Any) -> None:
    with pytest.raises(InvalidRequest, match="only JSON can express"):
        to_parameters(query_of({"conditions": conditions}))


def test_a_claim_takes_a_query_but_none_of_records_that_are_never_offered() -> None:
    claim = decode_order(StepClaim, b'{"worker": "w", "query": {"run": "O4", "conditions": {"t": {"lt": 1}}}}')
    assert claim.query == parse_words(["run=O4", "t<1"])
    assert msgspec.json.decode(msgspec.json.encode(claim), type=StepClaim) == claim
    with pytest.raises(InvalidRequest, match="only records with status 'good' are offered"):
        decode_order(StepClaim, b'{"worker": "w", "query": {"status": "noisy"}}')


def test_a_detector_has_a_facility_and_an_unknown_one_is_its_own() -> None:
    assert detector_of("L1:GWOSC-4KHZ_R1_STRAIN") == "L1"
    assert [detector_of(channel) for channel in (None, "", "TEMP", ":A")] == [None] * 4
    assert describe("H1").facility == "LIGO"
    assert set(describe("X9")) == {"X9"}
    assert detectors_with("facility", ["LIGO"]) == {"H1", "L1"}
    assert detectors_with("site", ["Cascina", "X9"]) == {"V1", "X9"}
    assert detectors_with("facility", ["L1"]) == set()
    assert set(DETECTORS) == {"A1", "G1", "H1", "K1", "L1", "V1"}

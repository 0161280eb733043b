"""The names and tokens that orders may have."""

import json
from typing import Any

import pytest

from gwwire.datastore import FlushOrder, FreezeOrder
from gwwire.decoding import InvalidRequest, decode_order
from gwwire.holdings import TransactionOrder
from gwwire.problems import ProblemError
from gwwire.public import CleanOrder, ThawOrder, TrainOrder
from gwwire.records import StepClaim

PRINTABLE = "expected printable characters, without line breaks, control characters and blanks at the ends"
BAD = {
    "": "expected at least 1 character",
    "x" * 5000: "expected at most ",
    **dict.fromkeys(("a\nb", "ab\n", "\nab", "\r", "a\x00", "a\x1b[31m", "\x7f", "a\x85b", "\u2028"), PRINTABLE),
    **dict.fromkeys((" a", "a ", " ", "\u00a0", "a\u202eb", "\ufeffa"), PRINTABLE),
}


@pytest.mark.parametrize("value", BAD, ids=lambda value: ascii(value[:8]))
@pytest.mark.parametrize(
    ("shape", "field"), [(TrainOrder, "user"), (TrainOrder, "token"), (FreezeOrder, "user"), (StepClaim, "worker")]
)
def test_names_and_tokens_are_printable_and_of_bounded_length(
    shape: type[TrainOrder | StepClaim], field: str, value: str
) -> None:
    order = {"user": "alice", "token": "secret", "worker": "node-1"} | {field: value}
    with pytest.raises(InvalidRequest) as refused:
        decode_order(shape, json.dumps(order).encode())
    assert refused.value.field == field
    assert refused.value.detail.startswith(f"{field}: {BAD[value]}")


@pytest.mark.parametrize(
    "value", ["a", "Ada Lovelace", "ada@example.org", "CN=Ada, O=Virgo/x", "小柴 é", 'a "q\\ t', "x" * 200]
)
def test_everything_that_people_can_read_is_a_name(value: str) -> None:
    order = json.dumps({"user": value, "token": value, "worker": value}).encode()
    assert decode_order(TrainOrder, order).user == decode_order(TrainOrder, order).token == value
    assert decode_order(StepClaim, order).worker == value


def test_a_batch_that_was_frozen_before_there_were_rules_can_be_thawed() -> None:
    assert decode_order(ThawOrder, b'{"user":"a\\nb","token":""}') == ThawOrder("a\nb", "")


@pytest.mark.parametrize(
    ("shape", "order", "field"),
    [
        (TrainOrder, b'{"user":"a","user":"b","token":"x"}', "user"),
        (ThawOrder, b'{"user":"a","token":"x","\\u0074oken":"y"}', "token"),
        (CleanOrder, b'{"msg":"x","batch":"b1","batch":null}', "batch"),
    ],
)
def test_an_order_with_a_key_twice_is_refused(shape: type[TrainOrder], order: bytes, field: str) -> None:
    with pytest.raises(InvalidRequest, match=f"^{field}: the key appears more than once$") as refused:
        decode_order(shape, order)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("more", "detail"),
    [
        ({"tags": {"a b": "x"}}, "tags: expected names of at most 50 letters, digits, '_', '.' and '-'"),
        ({"tags": {"a": "x" * 201}}, "tags: expected at most 200 characters"),
        ({"tags": {"a": "x\n"}}, f"tags: {PRINTABLE}"),
        ({"tags": {f"{number}": "x" for number in range(101)}}, "tags: expected at most 100 entries"),
        ({"files": []}, "files: expected at least 1 item"),
        ({"id": "mine"}, "id: expected a UUID in lower case"),
        ({"holding": 10**20}, "holding: expected a whole number, at most 9,223,372,036,854,775,807"),
        ({"holding": 0}, "holding: expected a whole number, at least 1"),
    ],
)
def test_what_a_transaction_refuses_is_said_in_plain_words(more: dict[str, Any], detail: str) -> None:
    order = {"files": [{"path": "/a"}], **more}
    with pytest.raises(InvalidRequest) as refused:
        decode_order(TransactionOrder, json.dumps(order).encode())
    assert (refused.value.detail, refused.value.field) == (detail, next(iter(more)))


@pytest.mark.parametrize("value", [b"1" * 5000, b'{"a":[{}],"a":1}', b"[" * 900 + b"]" * 900])
def test_an_unknown_key_of_an_order_is_ignored_with_any_value(value: bytes) -> None:
    assert decode_order(ThawOrder, b'{"later":%b,"user":"x","token":""}' % value).user == "x"
    for bad in (b'"\xff"', b"[" * 9000 + b"]" * 9000):
        with pytest.raises(ProblemError):
            decode_order(ThawOrder, b'{"later":%b,"user":"x","token":""}' % bad)


@pytest.mark.parametrize("shape", [CleanOrder, FlushOrder])
def test_a_misspelt_condition_of_an_order_to_archive_is_refused(shape: type[CleanOrder | FlushOrder]) -> None:
    assert decode_order(shape, b'{"msg":"as the original sends it"}').batch is None
    with pytest.raises(InvalidRequest, match="bacth") as refused:
        decode_order(shape, b'{"msg":"x","bacth":"b1"}')
    assert refused.value.field == "bacth"

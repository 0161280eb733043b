import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwwire.datastore import FlushOrder
from gwwire.decoding import InvalidRequest, decode_order
from gwwire.tiering import LONGEST_KEPT, Tiering, duration_text, parse_duration, parse_tiers


def test_equal_policies_travel_as_equal_bytes() -> None:
    one = decode_order(Tiering, b'{"archive_to":["tape","object","tape"],"keep_on_disk":60}')
    assert one == Tiering(("object", "tape"), 60)
    assert msgspec.json.encode(one) == b'{"archive_to":["object","tape"],"keep_on_disk":60}'


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        (b'{"tiering":{"keep_on_disk":60}}', "tiering", "the disk keeps a batch forever if archive_to names no tier"),
        (b'{"tiering":{"archive_to":["disk"]}}', "tiering", "the disk is always there"),
        (b'{"tiering":{"archive_to":["Tape"]}}', "tiering.archive_to", r"text that matches .*a-z"),
        (b'{"tiering":{"archive_to":["tape"],"keep_on_disk":-1}}', "tiering.keep_on_disk", "at least 0"),
        (b'{"tiering":{"archive_to":["tape"],"keep_on_dsk":1}}', "tiering", "keep_on_dsk"),
    ],
)
def test_a_policy_that_cannot_hold_is_refused_with_its_reason(body: bytes, field: str, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as refused:
        decode_order(FlushOrder, body)
    assert (refused.value.field or "").startswith(field)


def test_a_flush_without_a_policy_travels_as_before() -> None:
    assert msgspec.json.encode(FlushOrder("b1", "ada")) == b'{"batch":"b1","holder":"ada"}'
    assert msgspec.json.encode(FlushOrder()) == b"{}"


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("90m", 5400), ("12h", 43_200), ("7d", 604_800), ("0", 0), ("forever", None)]
)
def test_a_duration_is_a_number_with_a_unit_or_forever(text: str, seconds: int | None) -> None:
    assert parse_duration(text) == seconds
    assert duration_text(seconds) == text


@pytest.mark.parametrize("text", ["0s", "0d"])
def test_a_zero_may_have_a_unit(text: str) -> None:
    assert parse_duration(text) == 0


@pytest.mark.parametrize("text", ["", "7", "00", "7w", "-1d", "1.5h", "7 d", "d", "Forever", "36601d", "\u0667d"])
def test_any_other_text_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="as 90m, 12h or 7d, or forever"):
        parse_duration(text)


@given(st.none() | st.integers(0, LONGEST_KEPT))
def test_a_duration_is_read_as_it_is_written(seconds: int | None) -> None:
    assert parse_duration(duration_text(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "tiers"), [("object,tape", ("object", "tape")), (" tape , a-2", ("tape", "a-2")), ("", ()), (" ", ())]
)
def test_tiers_are_written_with_commas_between_them(text: str, tiers: tuple[str, ...]) -> None:
    assert parse_tiers(text) == tiers


@pytest.mark.parametrize("text", ["disk", "object,disk", "a,,b", "Tape", "a b", "a,", "-a", "a" * 33])
def test_a_name_that_no_tier_has_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a tier to archive to"):
        parse_tiers(text)

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwwire.problems import ProblemError
from gwwire.segment import InvalidSegment, Segment, SegmentLimits, compact, decode_segment, encode_segment
from tests.support.segments import BAD_BODIES

finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | finite | st.integers() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=5,
)


def bits(values: list[float]) -> bytes:
    return struct.pack(f"{len(values)}d", *values)


@pytest.mark.parametrize("what", BAD_BODIES)
def test_a_bad_body_is_refused_with_a_problem_that_names_the_field(what: str) -> None:
    body, status, field = BAD_BODIES[what]
    with pytest.raises(ProblemError) as refused:
        decode_segment(body)
    problem = refused.value.problem()
    assert problem.status == status
    assert problem.field == field
    assert problem.detail


@given(st.lists(finite, min_size=1), finite, st.floats(min_value=5e-324, allow_infinity=False))
def test_samples_and_times_survive_the_wire_bit_for_bit(h: list[float], t0: float, dt: float) -> None:
    segment = decode_segment(encode_segment(Segment(h, (t0, dt))))
    assert bits(segment.h) == bits(h)
    assert bits([*segment.t]) == bits([t0, dt])


@given(st.dictionaries(st.text().filter(lambda key: key != "channel"), json_values, max_size=4))
def test_meta_survives_the_wire(meta: dict[str, object]) -> None:
    assert decode_segment(encode_segment(Segment([0.0], (0.0, 1.0), meta))).meta == meta


def test_a_segment_tells_its_channel_where_it_knows_it() -> None:
    assert decode_segment(b'{"h":[0.0],"t":[0,1],"meta":{"channel":"L1:STRAIN"}}').channel == "L1:STRAIN"
    assert decode_segment(b'{"h":[0.0],"t":[0,1],"meta":{}}').channel is None
    assert decode_segment(b'{"h":[0.0],"t":[0,1]}').channel is None


def test_integers_are_numbers() -> None:
    assert decode_segment(b'{"h":[1,-2],"t":[0,1]}') == Segment([1.0, -2.0], (0.0, 1.0))


def test_a_body_without_white_space_is_kept_byte_for_byte() -> None:
    body = b'{"h":[1,2.50],"t":[0,1]}'
    assert compact(body, decode_segment(body)) is body


def test_white_space_is_dropped() -> None:
    body = b'{"h": [1.5, 2.5],\n "t": [0, 1], "meta": {"note": "a b"}}'
    tight = compact(body, decode_segment(body))
    assert tight == b'{"h":[1.5,2.5],"t":[0.0,1.0],"meta":{"note":"a b"}}'


def test_the_original_systems_files_are_segments(original_segments: list[Path]) -> None:
    for path in original_segments:
        segment = decode_segment(path.read_bytes())
        assert segment.h == json.loads(path.read_bytes())["h"]
        assert segment.dt == 1 / 4096


LIMITS = SegmentLimits(max_samples=4, max_meta=40, max_depth=4)
EXACTLY = {
    "samples": b'{"h":[1,2,3,4],"t":[0,1]}',
    "meta": b'{"h":[1],"t":[0,1],"meta":{"a":"%s"}}' % (b"x" * 32),
    "depth": b'{"h":[1],"t":[0,1],"meta":{"a":[{}]}}',
}
ONE_MORE = {
    "samples": (b'{"h":[1,2,3,4,5],"t":[0,1]}', "too-many-samples", "MAX_SAMPLES allows 4", "h"),
    "meta": (b'{"h":[1],"t":[0,1],"meta":{"a":"%s"}}' % (b"x" * 33), "meta-too-large", "MAX_META allows 40", "meta"),
    "depth": (b'{"h":[1],"t":[0,1],"meta":{"a":[{"b":[]}]}}', "too-deep", "MAX_DEPTH allows 4", "meta"),
    "depth of objects": (b'{"h":[1],"t":[0,1],"meta":{"a":{"b":{"c":{}}}}}', "too-deep", "MAX_DEPTH allows 4", "meta"),
}


@pytest.mark.parametrize("what", EXACTLY)
def test_a_segment_may_be_as_much_as_the_limit(what: str) -> None:
    assert decode_segment(EXACTLY[what], LIMITS)


@pytest.mark.parametrize("what", ONE_MORE)
def test_a_segment_one_above_a_limit_is_refused_with_the_name_of_the_limit(what: str) -> None:
    body, code, named, field = ONE_MORE[what]
    assert decode_segment(body), "only the limit is wrong with it"
    with pytest.raises(ProblemError, match=named) as refused:
        decode_segment(body, LIMITS)
    assert (refused.value.problem().code, refused.value.field) == (code, field)


def test_white_space_does_not_count_as_meta() -> None:
    assert decode_segment(b'{"h":[1],"t":[0,1],"meta":{"a":' + b" " * 100 + b"1}}", LIMITS)


def test_what_is_nested_without_end_is_too_deep_with_no_limit_set() -> None:
    with pytest.raises(ProblemError) as refused:
        decode_segment(b'{"h":[1],"t":[0,1],"meta":{"a":' + b"[" * 100_000)
    assert refused.value.problem().code == "too-deep"


ROOMY = SegmentLimits(max_samples=10, max_meta=100_000, max_depth=8)


@pytest.mark.parametrize("channel", ["", "H1:GDS-CALIB_STRAIN", "Kanal ä", "日本 \U0010ffff", "x" * 255])
def test_a_channel_has_any_name_that_is_only_read(channel: str) -> None:
    body = json.dumps({"h": [1.0], "t": [0, 1], "meta": {"channel": channel}}).encode()
    assert decode_segment(body, ROOMY).channel == channel


@pytest.mark.parametrize("channel", ["x" * 256, "a\nb", "\x1b[2J", "a\u2028b", "a\u202eb"])
def test_a_name_that_is_long_or_steers_who_shows_it_is_refused_but_what_is_stored_stays_readable(channel: str) -> None:
    body = json.dumps({"h": [1.0], "t": [0, 1], "meta": {"channel": channel}}).encode()
    with pytest.raises(InvalidSegment) as refused:
        decode_segment(body, ROOMY)
    assert refused.value.field == "meta.channel"
    assert decode_segment(body).channel == channel

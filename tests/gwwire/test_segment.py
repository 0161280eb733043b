import json
import math
import re
import struct
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwwire.problems import ProblemError
from gwwire.segment import (
    InvalidSegment,
    MetaTooLarge,
    Segment,
    SegmentLimits,
    TooManySamples,
    compact,
    decode_segment,
    encode_segment,
    validate_segment,
)
from tests.support.segments import BAD_BODIES

finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | finite | st.integers() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=5,
)


texts = st.text(max_size=4) | st.sampled_from(["h", "t", "meta", 'a"b', "a\\", '\\"', "\n", "é", "]", '","', "{}"])


class Members(list[tuple[str, Any]]):
    """The members of an object."""


def members_of(keys: st.SearchStrategy[str], values: st.SearchStrategy[Any]) -> st.SearchStrategy["Members"]:
    return st.lists(st.tuples(keys, values), max_size=4).map(Members)


#: JSON values; an object is a list of its members, so that a key may appear in it more than once.
raw_values = st.recursive(
    st.none() | st.booleans() | finite | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | members_of(texts, inner),
    max_leaves=8,
)


@dataclass(frozen=True)
class Style:
    """The style in which a program writes JSON."""

    space: str
    ascii: bool
    escape: bool  # every character of a string

    def text(self, value: Any) -> str:
        space = self.space
        if isinstance(value, Members):
            members = [f"{self.text(key)}{space}:{space}{self.text(each)}" for key, each in value]
            return "{" + f"{space},{space}".join(members) + "}"
        if isinstance(value, list):
            return f"[{space}{','.join(map(self.text, value))}{space}]"
        if isinstance(value, str) and self.escape:
            units = value.encode("utf-16-be").hex()
            return '"' + "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)) + '"'
        return json.dumps(value, ensure_ascii=self.ascii)


styles = st.builds(Style, st.sampled_from(["", " ", "\n\t"]), st.booleans(), st.booleans())
samples = st.integers(1, 40).map(lambda n: [1e-21] * n)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "h": samples,
    "t": st.just([1e9, 0.5]),
    "meta": members_of(texts, raw_values),
}
some_of_them = st.lists(st.sampled_from(["h", "t", "meta", "meta"]), max_size=2)
segment_members = some_of_them.flatmap(lambda more: st.permutations(["h", "t", *more])).flatmap(
    lambda keys: st.tuples(*(st.tuples(st.just(key), VALUES[key]) for key in keys)).map(Members)
)


def repeats_a_key(body: str) -> bool:
    repeats: list[bool] = []
    json.loads(body, object_pairs_hook=lambda members: repeats.append(len(dict(members)) < len(members)))
    return any(repeats)


def bits(values: list[float]) -> bytes:
    return struct.pack(f"{len(values)}d", *values)


@pytest.mark.parametrize("what", BAD_BODIES)
def test_a_bad_body_is_refused_with_a_problem_that_names_the_field(what: str) -> None:
    body, status, field = BAD_BODIES[what]
    with pytest.raises(ProblemError) as refused:
        validate_segment(body)
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


@given(segment_members, styles, styles)
def test_a_segment_is_refused_exactly_if_an_object_in_it_has_a_key_twice(
    members: Members, style: Style, another: Style
) -> None:
    body = "{" + ",".join(f"{style.text(key)}:{another.text(value)}" for key, value in members) + "}"
    assert decode_segment(body.encode())
    if repeats_a_key(body):
        with pytest.raises(InvalidSegment, match="appears more than once"):
            validate_segment(body.encode())
    else:
        validate_segment(body.encode())


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (
            b'{"h":[1.0],"t":[1e9,1],"meta":{"a":"%s"},"meta":{"channel":"H1:X"}}' % (b"x" * 10**6),
            'meta: the key "meta"',
        ),
        (b'{"h":[1],"t":[0,1],"meta":{"a":{"b\\n":1,"b\\u000a":2}}}', r'meta: the key "b\n"'),
        (b'{"\\u0068":[1],"t":[0,1],"h":[1]}', 'h: the key "h"'),
        (b'{"h":[1],"t":[0,1],"meta":{"%s":1,"%s":1}}' % (b"k" * 1000, b"k" * 1000), 'meta: the key "kkk'),
        (b'{"h":[%s],"t":[0,1],"t":[0,1]}' % (b"1" * 300 + b".0"), 't: the key "t"'),
    ],
)
def test_the_problem_names_the_repeated_key_on_one_short_line(body: bytes, reason: str) -> None:
    with pytest.raises(InvalidSegment, match=re.escape(reason)) as refused:
        validate_segment(body)
    assert len(refused.value.detail) < 200
    assert refused.value.detail.isprintable()


def test_repeated_keys_beside_very_deep_nesting_are_refused() -> None:
    for depth in range(900, 1000, 7):
        with pytest.raises(ProblemError) as refused:
            validate_segment(b'{"h":[1],"t":[0,1],"meta":{"a":%s%s},"meta":{}}' % (b"[" * depth, b"]" * depth))
        assert refused.value.problem().status == 422


@pytest.mark.parametrize(
    ("t0", "dt", "reason"),
    [
        (1126259462e3, 1 / 4096, "1e12 looks like milliseconds"),
        (1126259462e9, 1 / 4096, "1e18 like nanoseconds"),
        (1e10, 1.0, "t0 is 10000000000.0 s"),
        (-1e10, 1.0, "t0 is -10000000000.0 s"),
        (9999999999.0, 1.0, "ends at 10000000000.0 s"),
        (1e9, 1e-9, r"begins and ends at 1000000000.0 s: float64 times there differ by 1.19209e-07 s or more"),
        (1e308, 1e308, "dt is 1e\\+308 s; expected 1e-09 to 1e\\+06 s"),
        (0.0, 5e-324, "dt is 5e-324 s"),
        (0.0, math.nextafter(1e-9, 0), "expected 1e-09"),
        (0.0, math.nextafter(1e6, 2e6), "to 1e\\+06 s"),
    ],
)
def test_times_that_are_no_gps_seconds_are_refused_with_the_likely_mistake_but_stay_readable(
    t0: float, dt: float, reason: str
) -> None:
    body = encode_segment(Segment([1.0], (t0, dt)))
    with pytest.raises(InvalidSegment, match=reason) as refused:
        validate_segment(body)
    assert refused.value.field == "t"
    assert decode_segment(body).t == (t0, dt)


@pytest.mark.parametrize("dt", ["0", "-1", "-0.0"])
def test_a_spacing_that_is_not_positive_is_refused_in_the_same_words_and_never_read(dt: str) -> None:
    body = f'{{"h":[1.0],"t":[0,{dt}]}}'.encode()
    for read in (validate_segment, decode_segment):
        with pytest.raises(InvalidSegment, match=f"^t: dt is {float(dt)} s; expected 1e-09 to 1e\\+06 s$"):
            read(body)


@pytest.mark.parametrize(("t0", "dt"), [(9999999998.0, 1.0), (-9999999999.0, 1.0), (0.0, 1e-9), (0.0, 1e6)])
def test_any_other_gps_time_and_spacing_is_allowed(t0: float, dt: float) -> None:
    assert validate_segment(encode_segment(Segment([1.0], (t0, dt)))).t == (t0, dt)


def test_a_byte_order_mark_is_named() -> None:
    for encoding, name in {"utf-8-sig": "UTF-8", "utf-16": "UTF-16"}.items():
        with pytest.raises(ProblemError, match=f"byte order mark of {name}; send UTF-8 without one"):
            validate_segment('{"h":[1.0],"t":[0,1]}'.encode(encoding))


@pytest.mark.parametrize("half", ["\\ud800", "\\uDBFF\\ud800", "\\udcff", "\\ud800\\n"])
@pytest.mark.parametrize("end", ['"}}', '","channel":"H1:X"}}'])
def test_half_of_a_surrogate_pair_is_named(half: str, end: str) -> None:
    with pytest.raises(ProblemError, match=r"a text has \\u[dD].*, which is half of a surrogate pair"):
        validate_segment(('{"h":[1.0],"t":[0,1],"meta":{"file":"x' + half + end).encode())


def test_what_is_cut_off_is_named_as_that() -> None:
    with pytest.raises(ProblemError, match="truncated"):
        validate_segment(b'{"h":[1.0],"t":[0,1],"meta":{"star":"\\ud83c\\udf1f"')
    with pytest.raises(ProblemError, match="it is empty"):
        validate_segment(b" \n")


def test_a_segment_has_the_channel_of_its_meta() -> None:
    assert decode_segment(b'{"h":[0.0],"t":[0,1],"meta":{"channel":"L1:STRAIN"}}').channel == "L1:STRAIN"
    assert decode_segment(b'{"h":[0.0],"t":[0,1],"meta":{}}').channel is None
    assert decode_segment(b'{"h":[0.0],"t":[0,1],"meta":{"channel":""}}').channel is None
    assert decode_segment(b'{"h":[0.0],"t":[0,1]}').channel is None


def test_integers_are_numbers() -> None:
    assert decode_segment(b'{"h":[1,-2],"t":[0,1]}') == Segment([1.0, -2.0], (0.0, 1.0))


@pytest.mark.parametrize(
    "body", ['{"h":[1,NUMBER],"t":[0,1]}', '{"t":[0,1],"meta":{"a":[[]]},"\\u0068" : [ 1 , NUMBER ]}']
)
@pytest.mark.parametrize("sign", ["", "-"])
def test_a_whole_number_that_float64_does_not_hold_is_refused_because_it_would_be_read_as_another(
    body: str, sign: str
) -> None:
    for number in ("9007199254740993", "1" + "0" * 22 + "1", "1" * 300):
        with pytest.raises(InvalidSegment, match=rf"^h\[1\] is {sign}{number[:38]}") as refused:
            validate_segment(body.replace("NUMBER", sign + number).encode())
        assert refused.value.field == "h"
    for number in ("9007199254740992", "9007199254740994", "9007199254740993.0", "1e300", "1" + "0" * 22):
        assert validate_segment(body.replace("NUMBER", sign + number).encode()).h[1] == float(sign + number)


def test_a_body_without_white_space_is_kept_byte_for_byte() -> None:
    body = b'{"h":[1,2.50],"t":[0,1]}'
    assert compact(body, decode_segment(body)) is body


def test_white_space_is_dropped() -> None:
    body = b'{"h": [1.5, 2.5],\n "t": [0, 1], "meta": {"note": "a b"}}'
    tight = compact(body, decode_segment(body))
    assert tight == b'{"h":[1.5,2.5],"t":[0.0,1.0],"meta":{"note":"a b"}}'


@pytest.mark.parametrize("value", [b"1." + b"0" * 1000, b'"' + rb"\u0061" * 10 + b'"'], ids=["zeros", "escapes"])
def test_the_meta_that_is_stored_is_the_one_that_was_measured(value: bytes) -> None:
    body = b'{"h":[1],"t":[0,1],"meta":{"a":%b}}' % value
    segment = validate_segment(body, SegmentLimits(max_samples=4, max_meta=40, max_depth=4))
    assert compact(body, segment) == encode_segment(segment)


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
    assert validate_segment(EXACTLY[what], LIMITS)


@pytest.mark.parametrize("what", ONE_MORE)
def test_a_segment_one_above_a_limit_is_refused_with_the_name_of_the_limit(what: str) -> None:
    body, code, named, field = ONE_MORE[what]
    assert decode_segment(body), "only the limit is wrong with it"
    with pytest.raises(ProblemError, match=named) as refused:
        validate_segment(body, LIMITS)
    assert (refused.value.problem().code, refused.value.field) == (code, field)


@pytest.mark.parametrize(
    "body",
    [
        b'{"h":[' + b"1," * 999_999 + b'1],"t":[0,1]}',
        b'{"h":[1],"t":[0,1],"meta":{"a":[' + b"[]," * 666_666 + b"[]]}}",
        b'{"h":[1],"t":[0,1],"meta":{"a":[' + b"[]," * 666_666 + b'[]]},"meta":{}}',
    ],
    ids=["samples", "meta", "a meta that another one hides"],
)
def test_a_body_of_too_many_values_is_refused_before_they_fill_the_memory(body: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TooManySamples, match="MAX_SAMPLES allows 1000, MAX_META 64000 bytes"):
            validate_segment(body, SegmentLimits(max_samples=1000, max_meta=64_000, max_depth=16))
        assert tracemalloc.get_traced_memory()[1] < len(body)
    finally:
        tracemalloc.stop()


def test_a_large_body_is_allowed_as_many_values_as_the_limits() -> None:
    limits = SegmentLimits(max_samples=500_000, max_meta=64_000, max_depth=16)
    body = b'{"h":[' + b"1," * 499_999 + b'1],"t":[0,1],"meta":{"a":"' + b"," * 63_990 + b'"}}'
    assert len(validate_segment(body, limits).h) == limits.max_samples


def test_white_space_does_not_count_as_meta() -> None:
    assert validate_segment(b'{"h":[1],"t":[0,1],"meta":{"a":' + b" " * 100 + b"1}}", LIMITS)


def test_extreme_nesting_is_too_deep_even_without_a_limit() -> None:
    with pytest.raises(ProblemError) as refused:
        decode_segment(b'{"h":[1],"t":[0,1],"meta":{"a":' + b"[" * 100_000)
    assert refused.value.problem().code == "too-deep"


def test_many_keys_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = SegmentLimits(max_samples=500_000, max_meta=64_000, max_depth=16)
    keys = ",".join(f'"key {number}":1' for number in range(300_000))
    body = f'{{"h":[1],"t":[1,1],"meta":{{{keys}}}}}'.encode()
    with monkeypatch.context() as patch:
        patch.delattr("gwwire.segment._decoder")
        with pytest.raises(MetaTooLarge, match="meta: too many keys and texts; MAX_META allows 64000 bytes") as refused:
            validate_segment(body, limits)
    assert refused.value.field == "meta"
    samples = ",".join(["1"] * 400_000)
    meta = json.dumps({"channel": "H1:X", "text": '\\"' * 15_000})
    accepted = f'{{"h":[{samples}],"t":[1,1],{" " * 4_000_000}"meta":{meta}}}'.encode()
    assert validate_segment(accepted, limits).channel == "H1:X"


ROOMY = SegmentLimits(max_samples=10, max_meta=100_000, max_depth=8)


@pytest.mark.parametrize("channel", ["H1:GDS-CALIB_STRAIN", "Kanal ä", "日本 \U0010ffff", "x" * 255])
def test_a_channel_has_any_name_that_is_only_read(channel: str) -> None:
    body = json.dumps({"h": [1.0], "t": [0, 1], "meta": {"channel": channel}}).encode()
    assert validate_segment(body, ROOMY).channel == channel


@pytest.mark.parametrize("channel", ["x" * 256, "a\nb", "\x1b[2J", "a\u2028b", "a\u202eb"])
def test_a_channel_name_that_is_too_long_or_has_control_characters_is_refused_but_stored_ones_stay_readable(
    channel: str,
) -> None:
    body = json.dumps({"h": [1.0], "t": [0, 1], "meta": {"channel": channel}}).encode()
    with pytest.raises(InvalidSegment) as refused:
        validate_segment(body, ROOMY)
    assert refused.value.field == "meta.channel"
    assert decode_segment(body).channel == channel

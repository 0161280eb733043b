import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwservice.ranges import Unsatisfiable, requested_range

ETAG = '"a"'


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("bytes=0-", (0, 10)),
        ("bytes=3-5", (3, 6)),
        ("bytes=3-99", (3, 10)),
        ("bytes=-4", (6, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=5-3", None),
        ("bytes=1-2,4-5", None),
        ("lines=1-2", None),
        ("bytes=a-b", None),
        ("bytes=-", None),
        ("bytes=" + "9" * 5000 + "-", None),
        ("bytes=0-" + "9" * 5000, None),
        ("bytes=-" + "9" * 5000, None),
    ],
)
def test_a_range_is_part_of_the_content_and_a_malformed_one_is_ignored(
    header: str | None, expected: tuple[int, int] | None
) -> None:
    assert requested_range(header, None, 10, ETAG) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0"])
def test_a_range_without_a_byte_cannot_be_satisfied(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        requested_range(header, None, 10, ETAG)


@pytest.mark.parametrize("if_range", ['"b"', 'W/"a"', "Sun, 06 Nov 1994 08:49:37 GMT", ""])
def test_a_range_of_other_content_is_ignored(if_range: str) -> None:
    assert requested_range("bytes=1-2", if_range, 10, ETAG) is None
    assert requested_range("bytes=1-2", ETAG, 10, ETAG) == (1, 3)


@given(first=st.integers(0, 30), last=st.integers(0, 30), size=st.integers(1, 20))
def test_a_range_has_the_bytes_from_first_to_last(first: int, last: int, size: int) -> None:
    content = bytes(range(size))
    try:
        found = requested_range(f"bytes={first}-{last}", None, size, ETAG)
    except Unsatisfiable:
        assert first >= size
        assert last >= first
    else:
        assert (found is None) == (last < first)
        assert found is None or content[slice(*found)] == content[first : last + 1]

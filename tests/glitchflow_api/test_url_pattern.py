"""The patterns of GWDataFind: what they match, and that none takes long."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glitchflow_api.url_pattern import PATTERN, compile_pattern

#: Of few characters, so that they are often found.
TEXT = st.text("ab./", max_size=4)
PATTERNS = st.builds(
    lambda begin, texts, end: begin + ".*".join(texts) + end,
    st.sampled_from(["", "^"]),
    st.lists(TEXT, min_size=1, max_size=4),
    st.sampled_from(["", "$"]),
)


@given(pattern=PATTERNS, url=st.text("ab./", max_size=12))
def test_a_pattern_is_found_where_a_regular_expression_would_be(pattern: str, url: str) -> None:
    assert re.fullmatch(PATTERN, pattern)
    assert bool(compile_pattern(pattern).match(url)) == bool(re.search(pattern, url))


@pytest.mark.parametrize("pattern", ["(a+)+$", ".+.+!", "a++", "a{9}", "a?", "a|b", "[a]", r"\d", ".*" * 4])
def test_other_forms_are_no_patterns(pattern: str) -> None:
    assert not re.fullmatch(PATTERN, pattern)


def test_the_worst_pattern_takes_a_moment_for_many_urls() -> None:
    pattern = compile_pattern("0.*0.*0.*0!")
    began = time.thread_time()
    assert not any(pattern.match("0" * 255) for _ in range(1000))
    assert time.thread_time() - began < 1.0

"""docs/problems.md documents every problem and no other."""

import re
from pathlib import Path

import pytest

from gwwire.problems import ProblemCode, make_problem

PAGE = (Path(__file__).parents[2] / "docs" / "problems.md").read_text()
SECTIONS = [section.split("\n", 1) for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]]


def test_every_problem_has_one_section_and_there_are_no_others() -> None:
    assert sorted(code for code, _ in SECTIONS) == sorted(ProblemCode)


@pytest.mark.parametrize(("code", "text"), SECTIONS, ids=[code for code, _ in SECTIONS])
def test_a_section_states_the_status_then_what_happened_the_cause_and_what_to_do(code: str, text: str) -> None:
    problem = make_problem(ProblemCode(code), "")
    assert text.strip().startswith(f"**{problem.status} {problem.title}.**\n\n- *What happened:* ")
    assert re.findall(r"^- \*([\w ]+):\*", text, re.MULTILINE) == ["What happened", "Cause", "What to do"]


def test_the_example_at_the_top_is_a_real_problem_document() -> None:
    assert make_problem(ProblemCode.INVALID_SEGMENT, "").type in PAGE.partition("##")[0]

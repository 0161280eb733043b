import json

import pytest

from gwwire.problems import ProblemCode, code_of_status, encode_problem, make_problem


@pytest.mark.parametrize("code", ProblemCode)
def test_every_problem_has_a_status_and_says_its_code(code: ProblemCode) -> None:
    document = json.loads(encode_problem(make_problem(code, "what happened")))
    assert 400 <= document["status"] < 600
    assert document["code"] == code.value
    assert document["type"] == f"/problems/{code.value}"
    assert document["title"]
    assert document["detail"] == "what happened"
    assert "field" not in document


def test_a_problem_names_the_field_where_there_is_one() -> None:
    document = json.loads(encode_problem(make_problem(ProblemCode.INVALID_SEGMENT, "too small", field="t")))
    assert document["field"] == "t"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, ProblemCode.BAD_REQUEST),
        (404, ProblemCode.NOT_FOUND),
        (405, ProblemCode.METHOD_NOT_ALLOWED),
        (413, ProblemCode.TOO_LARGE),
        (418, ProblemCode.BAD_REQUEST),
        (422, ProblemCode.INVALID_REQUEST),
        (500, ProblemCode.INTERNAL_ERROR),
    ],
)
def test_a_frameworks_own_status_has_a_problem_code(status: int, code: ProblemCode) -> None:
    assert code_of_status(status) is code

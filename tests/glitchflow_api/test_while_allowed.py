import pytest

from glitchflow_api.bundle_routes import bundle_archive
from glitchflow_api.holding_routes import file_bytes
from glitchflow_api.while_allowed import WhileAllowed


@pytest.mark.anyio
async def test_what_may_last_ends_with_its_credential() -> None:
    answers = await bundle_archive("b"), await file_bytes(1, "a")
    assert all(isinstance(answer, WhileAllowed) for answer in answers)

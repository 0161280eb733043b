import pytest

from dslogic.rules import bytes_needed


@pytest.mark.parametrize(("max_size", "needed"), [(0, 1), (1, 1), (100, 100), (50_000_000, 50_000_000)])
def test_a_batch_may_be_frozen_from_max_size_on_and_an_empty_one_never(max_size: int, needed: int) -> None:
    assert bytes_needed(max_size) == needed

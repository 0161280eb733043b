import pytest

from gwclient.amounts import bytes_text, count_text, number_text


def test_numbers_have_commas_and_bytes_a_unit() -> None:
    assert [count_text(number, "batch", "batches") for number in (0, 1, 1234)] == [
        "0 batches",
        "1 batch",
        "1,234 batches",
    ]
    assert [bytes_text(size) for size in (0, 999, 1000, 3e9)] == ["0 bytes", "999 bytes", "1.0 kB", "3.0 GB"]


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (2.25, "2.25"), (1_000_000, "1,000,000"), (-0.0625, "-0.0625")])
def test_a_number_has_as_many_decimals_as_needed(number: float, text: str) -> None:
    assert number_text(number) == text

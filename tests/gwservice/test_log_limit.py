from gwservice.logs import MOST, SECONDS, LogLimit


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_repeated_line_is_written_a_bounded_number_of_times() -> None:
    limit = LogLimit(Clock())
    assert [limit.admit("full") for _ in range(MOST + 3)] == [0] * MOST + [None] * 3


def test_the_next_line_counts_those_that_were_omitted() -> None:
    clock = Clock()
    limit = LogLimit(clock)
    for _ in range(MOST + 3):
        limit.admit("full")
    clock.now += SECONDS
    assert [limit.admit("full") for _ in range(2)] == [3, 0]


def test_a_limit_may_be_one_line_a_minute() -> None:
    clock = Clock()
    limit = LogLimit(clock, most=1, seconds=60)
    assert [limit.admit("full") for _ in range(3)] == [0, None, None]
    clock.now += 59
    assert limit.admit("full") is None
    clock.now += 1
    assert limit.admit("full") == 3


def test_each_kind_of_line_has_its_own_limit() -> None:
    limit = LogLimit(Clock())
    for _ in range(MOST + 1):
        limit.admit("full")
    assert limit.admit("broken") == 0

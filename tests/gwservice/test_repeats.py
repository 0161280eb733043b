from gwservice.repeats import MOST, SECONDS, Repeats


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_happens_over_and_over_is_told_a_bounded_number_of_times() -> None:
    repeats = Repeats(Clock())
    assert [repeats.tell("full") for _ in range(MOST + 3)] == [0] * MOST + [None] * 3


def test_what_went_untold_is_counted_by_the_next_that_is_told() -> None:
    clock = Clock()
    repeats = Repeats(clock)
    for _ in range(MOST + 3):
        repeats.tell("full")
    clock.now += SECONDS
    assert [repeats.tell("full") for _ in range(2)] == [3, 0]


def test_one_kind_does_not_silence_another() -> None:
    repeats = Repeats(Clock())
    for _ in range(MOST + 1):
        repeats.tell("full")
    assert repeats.tell("broken") == 0

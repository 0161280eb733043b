"""The cost of the moves of a plan: bytes, time, and money."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from gwwire.records import StepState
from gwwire.tiering import Move, TieringPlan

_GB = 1e9


class Estimate(Struct, frozen=True):
    """All moves of one step together; None is unknown."""

    step: str
    batches: int
    bytes: int
    #: s that copying takes at the rate; None for a drop too, which takes next to none.
    seconds: float | None
    #: The price of the bytes in their tier each month; negative for the savings of a drop.
    per_month: float | None


def estimates(plan: TieringPlan, rate: float | None, prices: Mapping[str, float]) -> list[Estimate]:
    """Return an estimate for each step of a plan, copies first.

    Args:
        plan: the plan; its rates, of copies made so far, are used unless there is a `rate`.
        rate: bytes per s that a tier takes, or None.
        prices: price of a GB (10^9 bytes) for a month, by tier.

    """
    steps = sorted({move.step for move in plan.moves})
    return [_estimate(step, [move for move in plan.moves if move.step == step], plan, rate, prices) for step in steps]


def unfinished(plan: TieringPlan) -> tuple[list[Move], list[Move], list[Move]]:
    """Return the moves that are to be made now, those that follow later, and those that failed for good.

    A move after one that failed belongs to none of them.
    """
    now: list[Move] = []
    later: list[Move] = []
    failed = [move for move in plan.moves if move.state is StepState.FAILED]
    dead = {(move.batch, move.step) for move in failed}
    for move in plan.moves:
        if (move.batch, move.step) in dead or any((move.batch, step) in dead for step in move.after):
            continue
        (now if move.due is None else later).append(move)
    return now, later, failed


def _estimate(
    step: str, moves: Sequence[Move], plan: TieringPlan, rate: float | None, prices: Mapping[str, float]
) -> Estimate:
    verb, _, tier = step.partition(":")
    is_copy, size = verb == "copy", _size(moves)
    speed = rate or plan.rates.get(tier)
    price = prices.get(tier)
    return Estimate(
        step,
        len(moves),
        size,
        size / speed if is_copy and speed else None,
        None if price is None else (size if is_copy else -size) / _GB * price,
    )


def _size(moves: Iterable[Move]) -> int:
    return sum(move.bytes for move in moves)

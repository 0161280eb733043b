"""Split windows into parts for training, validation and testing, so that no part contains strain of another.

Neighbouring windows are similar: they have the same noise, and may share a glitch. Therefore whole blocks of time are
assigned, not single windows, and windows too near to a window of another part belong to none.
"""

import math
from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from preproc.parameters import Parameters

#: Shares up to this are rounding errors.
_ROUNDING = 1e-9
#: Difference between a share and its request that is not reported.
_MISS = 0.05


class Part(StrEnum):
    """The purpose of a window."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"
    GUARD = "guard"


def split_windows(starts: Sequence[float], parameters: Parameters) -> list[Part]:
    """Return the part of each window, in the order of the GPS seconds at which they start.

    Blocks of `split_block` seconds are shuffled with `rnd_seed` and assigned in the requested proportions, as nearly as
    whole blocks allow; each requested part gets at least one block if there are enough. Of two windows of different
    parts that are less than `guard` seconds apart, the later one becomes `Part.GUARD`.
    """
    if not starts:
        return []
    blocks = _blocks(starts, parameters)
    parts = _deal(blocks[-1] + 1, parameters)
    found: list[Part] = []
    before: tuple[float, Part] | None = None
    for start, block in zip(starts, blocks, strict=True):
        part = parts[block]
        if before is not None and before[1] != part and start < before[0] + parameters.guard:
            found.append(Part.GUARD)
            continue
        found.append(part)
        before = start + parameters.window, part
    return found


def block_count(starts: Sequence[float], parameters: Parameters) -> int:
    """Return the number of blocks of windows."""
    return _blocks(starts, parameters)[-1] + 1


def wanted_parts(parameters: Parameters) -> dict[Part, float]:
    """Return the requested proportion of each part, without parts of none."""
    train, validation = parameters.train_proportion, parameters.validation_proportion
    shares = {Part.TRAIN: train, Part.VALIDATION: validation, Part.TEST: 1 - train - validation}
    return {part: share for part, share in shares.items() if share > _ROUNDING}


def describe_miss(parts: Sequence[Part], parameters: Parameters) -> str:
    """Return the shares of the parts and those requested, or "" if they differ by at most 5 % of the windows."""
    wanted = wanted_parts(parameters)
    used = sum(part is not Part.GUARD for part in parts)
    shares = {part: parts.count(part) / used for part in wanted}
    if all(abs(shares[part] - wanted[part]) <= _MISS + _ROUNDING for part in wanted):
        return ""
    return ", ".join(f"{part} {100 * shares[part]:.0f} % instead of {100 * wanted[part]:.0f} %" for part in wanted)


def _blocks(starts: Sequence[float], parameters: Parameters) -> list[int]:
    seconds = max(parameters.split_block, parameters.window)
    blocks, first, number = [], starts[0], 0
    for start in starts:
        if start >= first + seconds:
            first, number = start, number + 1
        blocks.append(number)
    return blocks


def _deal(blocks: int, parameters: Parameters) -> list[Part]:
    wanted = wanted_parts(parameters)
    least = 1 if blocks >= len(wanted) else 0
    counts = {part: max(1, math.floor(share * blocks)) * least for part, share in wanted.items()}
    while sum(counts.values()) < blocks:
        counts[max(wanted, key=lambda part: wanted[part] * blocks - counts[part])] += 1
    while sum(counts.values()) > blocks:
        # A part that has its only block keeps it.
        counts[max((part for part in wanted if counts[part] > 1), key=lambda part: counts[part])] -= 1
    dealt = [part for part, count in counts.items() for _ in range(count)]
    order = np.random.default_rng(parameters.rnd_seed).permutation(blocks)
    return [dealt[place] for place in order]

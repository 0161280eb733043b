"""A difference that recovery found."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A difference and its repair, in words and as a call; without a repair it needs an operator."""

    what: str
    remedy: str = ""
    repair: Callable[[], object] | None = None

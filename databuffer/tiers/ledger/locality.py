"""The locality of a pack, computed from the states of its replicas; pure functions."""

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from databuffer.tiers.tier import TAPE, Tier
from gwwire.tiering import DISK, BatchLocality, ReplicaState

#: The localities of packs that can be read at once.
AT_ONCE = frozenset({BatchLocality.DISK, BatchLocality.DISK_AND_TAPE})


class Known(Protocol):
    """A replica that is known."""

    @property
    def tier(self) -> str: ...  # noqa: D102 (see `gwwire.tiering.Replica`)

    @property
    def state(self) -> ReplicaState: ...  # noqa: D102 (see `gwwire.tiering.Replica`)


def tapes_of(tiers: Mapping[str, Tier]) -> list[str]:
    """Return the names of the tiers from which bytes have to be recalled."""
    return [tier.name for tier in tiers.values() if tier.kind == TAPE]


def locality_of(replicas: Iterable[Known], tiers: Mapping[str, Tier]) -> BatchLocality:
    """Return where a pack is that has these replicas; nothing is asked of the tiers.

    A replica counts if it is VERIFIED, that on the disk also before it is compared.
    """
    known = list(replicas)
    whole = {each.tier for each in known if is_whole(each)}
    on_tape = not whole.isdisjoint(tapes_of(tiers))
    if not whole.isdisjoint(_online(tiers)):
        return BatchLocality.DISK_AND_TAPE if on_tape else BatchLocality.DISK
    if on_tape:
        return BatchLocality.TAPE
    if whole:
        return BatchLocality.UNAVAILABLE
    return BatchLocality.LOST if known else BatchLocality.NONE


def is_whole(replica: Known) -> bool:
    """Return whether a replica counts: it is VERIFIED, or on the disk and not compared yet."""
    unread = replica.tier == DISK and replica.state is ReplicaState.WRITTEN
    return unread or replica.state is ReplicaState.VERIFIED


def _online(tiers: Mapping[str, Tier]) -> Collection[str]:
    return {DISK, *tiers} - set(tapes_of(tiers))

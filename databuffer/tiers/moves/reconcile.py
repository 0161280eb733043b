"""The replicas that the disk and the tiers know and the ledger does not, after a start or a repair of the catalog."""

import logging
from collections.abc import Iterable, Iterator

from databuffer.errors import VolumeError
from databuffer.storage.dropped import read_dropped
from databuffer.tiers.ledger.replicas import ReplicaRow
from databuffer.tiers.moves.access import TierAccess
from databuffer.tiers.moves.replica_ledger import ReplicaLedger
from databuffer.tiers.packs.pack import PREFIXES
from databuffer.tiers.packs.source import PackSource
from databuffer.tiers.tier import Tier, TierError
from gwwire.tiering import ReplicaState

log = logging.getLogger(__name__)

_SECOND = 10**9


def reconcile(ledger: ReplicaLedger, access: TierAccess, sources: Iterable[PackSource]) -> None:
    """Add to the ledger what the TIERS.json of packs say.

    A ledger without replicas is new, or was lost: add those that the tiers list.
    """
    sources, is_new = list(sources), ledger.is_empty()
    for source in sources:
        try:
            if (dropped := read_dropped(source.folder)) is not None:
                ledger.take_dropped(source, dropped)
        except VolumeError as error:
            log.warning("%s: %s", source.text, error.detail, extra={"event": "replicas-unknown"})
    for tier in access.tiers.values() if is_new and sources else ():
        try:
            with access.noting_errors(tier):
                for row in replicas_in(tier, sources):
                    ledger.put_unless_known(row, is_listed=True)
        except TierError as error:
            log.warning("tier %s cannot be listed: %s", tier.name, error, extra={"event": "replicas-unknown"})


def replicas_in(tier: Tier, sources: Iterable[PackSource]) -> Iterator[ReplicaRow]:
    """Yield the replicas of some packs that a tier lists, as WRITTEN; raise TierError."""
    ids = {source.key: source.id for source in sources}
    for prefix in PREFIXES:
        for stored in tier.list(prefix):
            if pack := ids.get(stored.key):
                written = round(stored.modified * _SECOND)
                yield ReplicaRow(pack, tier.name, stored.key, stored.size, ReplicaState.WRITTEN, written=written)

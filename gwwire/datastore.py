"""The models that only the services exchange, and the original's state file; `gwwire.public` has the public ones."""

from enum import StrEnum
from typing import Annotated

import msgspec

from gwwire.public import DatastoreState, TrainOrder
from gwwire.tiering import BatchReplicas, Tiering

#: dslogic's answer to a segment for a frozen datastore, with status 503 and as plain text.
FROZEN_TEXT = "Datastore frozen."
#: dslogic's answer to a freeze of a batch that is too small, with status 200 and as plain text.
WAITING_TEXT = "Waiting for the buffer to fill."


class OutcomeCode(StrEnum):
    """The outcome of an order at the buffer."""

    RES_CREATE = "RES_CREATE"
    STAT_UPD = "STAT_UPD"


class Description(msgspec.Struct, frozen=True):
    """The state and the holder, which is empty while OPERATIONAL; also the content of Dsstat.json.

    `token` is the fingerprint of the holder's token; the token itself is not stored.
    """

    dstatus: DatastoreState
    user: str = ""
    token: str = ""


class Outcome(msgspec.Struct, frozen=True):
    """The outcome of an order at the buffer, for programs (`code`) and people (`body`)."""

    code: OutcomeCode
    body: str


class FreezeOrder(TrainOrder, frozen=True):
    """Freeze the batch, unless it has fewer than `at_least` bytes."""

    at_least: Annotated[int, msgspec.Meta(ge=0)] = 0


class FreezeOutcome(Outcome, frozen=True):
    """A frozen batch: its size, measured in the same step as the freeze, and its holder."""

    n_itm: int
    buff_size: int
    holder: str
    batch: str
    digest: str


class FlushOrder(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Archive the current batch; if `batch` or `holder` is given, only that batch, or one of that holder.

    An empty holder is that of an open batch. A misspelt condition is refused, not ignored.
    """

    batch: str | None = None
    holder: str | None = None
    msg: str = ""
    """The reason, which clients of the original send."""
    tiering: Tiering | None = None
    """The policy for the replicas of the batch; None for that of the datastore, or the disk if it has none."""


class Replicas(msgspec.Struct, frozen=True):
    """The replicas of all archived batches, the oldest first."""

    batches: list[BatchReplicas]

"""What can go wrong in the buffer; no HTTP here.

ProblemError
├── MalformedJson, InvalidSegment   the body is no segment (gwwire)
├── NotFound                        there is no such batch or segment
├── Refused                         nothing is wrong with the buffer
│   ├── BufferFrozen                  the batch is sealed for its holder
│   ├── BatchChanged                  the batch an order was meant for is gone
│   ├── BatchNotFrozen                only a frozen batch can be claimed
│   ├── BatchNotArchived              only an archived batch can be verified
│   ├── BatchClaimed                  another worker has the batch
│   ├── NotHolder                     somebody else froze the batch
│   ├── QuotaExceeded                 the group has stored enough for today
│   ├── KeyReused                     the Idempotency-Key came with other bytes before
│   └── QueueFull                     more segments are waiting than WCHSZ allows
└── VolumeError                     the volume did not do what it was asked
    ├── VolumeFull                    no space left
    └── VolumeFailed                  it cannot be written or read
"""

import errno

from gwwire.problems import ProblemCode, ProblemError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Refused(ProblemError):
    """An order that the buffer does not carry out, though it could."""


class BufferFrozen(Refused):
    """The batch is frozen; nothing is added to it."""

    code = ProblemCode.BUFFER_FROZEN


class BatchChanged(Refused):
    """The batch in hand is not the one the order was meant for, or smaller: that one was archived meanwhile."""

    code = ProblemCode.BATCH_CHANGED


class BatchNotFrozen(Refused):
    """Only a frozen batch holds still for a worker."""

    code = ProblemCode.BATCH_NOT_FROZEN


class BatchNotArchived(Refused):
    """Only an archived batch has its final bytes."""

    code = ProblemCode.BATCH_NOT_ARCHIVED


class BatchClaimed(Refused):
    """Another worker has the batch until its lease ends."""

    code = ProblemCode.BATCH_CLAIMED


class NotHolder(Refused):
    """Only the one who froze the batch may thaw it."""

    code = ProblemCode.NOT_HOLDER


class QuotaExceeded(Refused):
    """The group has stored as much as it may today."""

    code = ProblemCode.QUOTA_EXCEEDED


class KeyReused(Refused):
    """The Idempotency-Key was used for other bytes before."""

    code = ProblemCode.KEY_REUSED


class NotFound(ProblemError):
    """There is no such batch or segment."""

    code = ProblemCode.NOT_FOUND


class QueueFull(Refused):
    """More segments are waiting than the queue takes."""

    code = ProblemCode.QUEUE_FULL


class VolumeError(ProblemError):
    """The volume did not do what it was asked."""


class VolumeFull(VolumeError):
    """There is no space left on the volume."""

    code = ProblemCode.VOLUME_FULL


class VolumeFailed(VolumeError):
    """The volume cannot be written or read."""

    code = ProblemCode.VOLUME_FAILED


def volume_error(error: OSError) -> VolumeError:
    """Tell a full volume from a failing one."""
    reason = f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
    return VolumeFull(reason) if error.errno in NO_SPACE else VolumeFailed(reason)

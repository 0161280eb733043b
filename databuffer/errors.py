"""The errors of the buffer; no HTTP here. Those of a segment's bytes are in `gwwire`."""

import errno

from gwwire.problems import ProblemCode, ProblemError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Refused(ProblemError):
    """The buffer works, and does not carry out the order."""


class BufferFrozen(Refused):
    """The batch is frozen; nothing is added to it."""

    code = ProblemCode.BUFFER_FROZEN


class BatchChanged(Refused):
    """The current batch is not the one that the order names, or it is smaller."""

    code = ProblemCode.BATCH_CHANGED


class BatchNotFrozen(Refused):
    """Only a frozen batch can be claimed."""

    code = ProblemCode.BATCH_NOT_FROZEN


class BatchNotArchived(Refused):
    """Only an archived batch can be verified."""

    code = ProblemCode.BATCH_NOT_ARCHIVED


class BatchClaimed(Refused):
    """Another worker has the batch until its lease ends."""

    code = ProblemCode.BATCH_CLAIMED


class NotHolder(Refused):
    """Only the holder of a frozen batch may thaw it."""

    code = ProblemCode.NOT_HOLDER


class QuotaExceeded(Refused):
    """The group has used its quota of today."""

    code = ProblemCode.QUOTA_EXCEEDED


class KeyReused(Refused):
    """The Idempotency-Key was used for other bytes before."""

    code = ProblemCode.KEY_REUSED


class NotFound(ProblemError):
    """There is no such batch or segment."""

    code = ProblemCode.NOT_FOUND


class QueueFull(Refused):
    """WCHSZ segments are already waiting to be stored."""

    code = ProblemCode.QUEUE_FULL


class VolumeError(ProblemError):
    """The volume rejected a read or a write."""


class VolumeFull(VolumeError):
    """There is no space left on the volume."""

    code = ProblemCode.VOLUME_FULL


class VolumeFailed(VolumeError):
    """The volume cannot be written or read."""

    code = ProblemCode.VOLUME_FAILED


def volume_error(error: OSError) -> VolumeError:
    """Return VolumeFull or VolumeFailed for an error of the operating system."""
    reason = f"{error.strerror or error}: {error.filename}" if error.filename else str(error)
    return VolumeFull(reason) if error.errno in NO_SPACE else VolumeFailed(reason)

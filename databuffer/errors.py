"""The errors of the buffer; no HTTP here. Those of a segment's bytes are in `gwwire`."""

import errno

from gwwire.problems import ProblemCode, ProblemError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Refused(ProblemError):
    """The buffer works, but rejects the order."""


class BufferFrozen(Refused, code=ProblemCode.BUFFER_FROZEN):
    """The batch is frozen; nothing is added to it."""


class BatchChanged(Refused, code=ProblemCode.BATCH_CHANGED):
    """The current batch is not the one that the order names, or it is smaller."""


class BatchNotArchived(Refused, code=ProblemCode.BATCH_NOT_ARCHIVED):
    """Only an archived batch can be verified."""


class NotHolder(Refused, code=ProblemCode.NOT_HOLDER):
    """Only the holder of a frozen batch may thaw it."""


class StepSuperseded(Refused, code=ProblemCode.STEP_SUPERSEDED):
    """Another attempt, or a redo, has replaced the attempt of a worker."""


class RecordChanged(Refused, code=ProblemCode.RECORD_CHANGED):
    """The record is not the one that the request's If-Match names."""


class QuotaExceeded(Refused, code=ProblemCode.QUOTA_EXCEEDED):
    """The group has used its quota of today."""


class KeyReused(Refused, code=ProblemCode.KEY_REUSED):
    """The Idempotency-Key was used for other bytes before."""


class BundleNotReady(Refused, code=ProblemCode.BUNDLE_NOT_READY):
    """The archive of a bundle does not exist: it is being built, or its building failed or was cancelled."""


class NotFound(ProblemError, code=ProblemCode.NOT_FOUND):
    """There is no such batch, segment, record, step or bundle."""


class QueueFull(Refused, code=ProblemCode.QUEUE_FULL):
    """WCHSZ segments are already waiting to be stored."""


class VolumeError(ProblemError):
    """The volume rejected a read or a write."""


class VolumeFull(VolumeError, code=ProblemCode.VOLUME_FULL):
    """There is no space left on the volume."""


class VolumeFailed(VolumeError, code=ProblemCode.VOLUME_FAILED):
    """The volume cannot be written or read."""


def volume_error(error: OSError) -> VolumeError:
    """Return VolumeFull or VolumeFailed for an error of the operating system."""
    what = error.strerror or str(error)
    reason = f"{what}: {error.filename}" if error.filename else what
    return VolumeFull(reason) if error.errno in NO_SPACE else VolumeFailed(reason)

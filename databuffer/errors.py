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


class StepRunning(Refused, code=ProblemCode.STEP_RUNNING):
    """A worker has a lease for the step."""


class RecordChanged(Refused, code=ProblemCode.RECORD_CHANGED):
    """The record is not the one that the request's If-Match names."""


class SeqAhead(Refused, code=ProblemCode.SEQ_AHEAD):
    """No change has the seq of a request yet: a catalog of before may have been restored."""


class QuotaExceeded(Refused, code=ProblemCode.QUOTA_EXCEEDED):
    """The group has used its quota of today."""


class KeyReused(Refused, code=ProblemCode.KEY_REUSED):
    """The Idempotency-Key was used for other bytes before."""


class BundleNotReady(Refused, code=ProblemCode.BUNDLE_NOT_READY):
    """The archive of a bundle does not exist: it is being built, or its building failed or was cancelled."""


class OffsetMismatch(Refused, code=ProblemCode.OFFSET_MISMATCH):
    """The bytes of a request do not begin where those that have arrived end."""


class OffsetMissing(Refused, code=ProblemCode.BAD_REQUEST):
    """Bytes have arrived, and the request does not say that its own follow them."""


class DigestMismatch(Refused, code=ProblemCode.DIGEST_MISMATCH):
    """Bytes are not those that the digest of the request stands for; they were dropped."""


class UploadEnded(Refused, code=ProblemCode.UPLOAD_ENDED):
    """A file is complete, has failed, or is continued by another request."""


class LabelTaken(Refused, code=ProblemCode.LABEL_TAKEN):
    """Another holding of the user has the label."""


class NotOwner(Refused, code=ProblemCode.NOT_OWNER):
    """Only the owner of a holding may change it."""


class TooManyStaged(Refused, code=ProblemCode.TOO_MANY_REQUESTS):
    """The stage requests that have not ended have too many paths together."""


class MoveFailed(Refused):
    """A replica cannot be written, read or deleted now; it is the reason why an attempt at a step failed."""


class OnTape(Refused, code=ProblemCode.ON_TAPE):
    """The bytes are on tape only; their recall has begun."""


class TierFailed(Refused, code=ProblemCode.TIER_FAILED):
    """No tier with a replica of the bytes returned them."""


class NoReplica(TierFailed):
    """No replica of the bytes can be read, and none can be recalled."""


class RecallTooLarge(Refused, code=ProblemCode.RECALL_TOO_LARGE):
    """A recall is larger than the cache of the tape."""


class NotFound(ProblemError, code=ProblemCode.NOT_FOUND):
    """There is no such batch, segment, record, step, bundle, holding, file or transaction."""


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
    paths = " -> ".join(str(each) for each in (error.filename, error.filename2) if each)  # of a rename, either is wrong
    reason = f"{what}: {paths}" if paths else what
    return VolumeFull(reason) if error.errno in NO_SPACE else VolumeFailed(reason)

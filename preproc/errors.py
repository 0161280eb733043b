"""The exceptions of preprocessing; each message is one line."""


class PreprocError(Exception):
    """The run failed."""

    exit_code = 1
    #: True if the same run may succeed later.
    retry = True


class BadParameter(PreprocError):
    """A parameter is out of range or contradicts another one."""

    retry = False


class UnusableBatch(PreprocError):
    """The batch has no usable segment, or it changed while it was read."""

    retry = False


class UnusableDataset(PreprocError):
    """The file is not a dataset, or it cannot be read."""


class UnusableChannel(PreprocError):
    """A channel cannot be whitened."""

    retry = False


class NoWindow(PreprocError):
    """The strain does not fill a single window."""

    retry = False


class WorkersFailed(PreprocError):
    """The processes or the cluster that compute spectrograms failed."""


class ExtraMissing(PreprocError):
    """The request needs software that is not installed."""


class GatewayFailed(PreprocError):
    """The batch cannot be fetched from the gateway, or another worker claimed it."""


class OutputFailed(PreprocError):
    """The result cannot be written, or another run uses the same folder."""


class Unwritable(OutputFailed):
    """The system rejected a write: the disk is full, for example."""

    exit_code = 5

"""The exceptions of preprocessing. Each message is one line that says what was found and what is needed."""


class PreprocError(Exception):
    """The work could not be done."""

    exit_code = 1


class BadParameter(PreprocError):
    """A parameter makes no sense, by itself or together with another."""


class UnusableBatch(PreprocError):
    """There is no segment that can be used, or the batch is not what it says it is."""


class UnusableDataset(PreprocError):
    """The file is not a dataset, or it cannot be read."""


class UnusableChannel(PreprocError):
    """A channel cannot be whitened."""


class NoWindow(PreprocError):
    """What was read does not fill a single window."""


class WorkersFailed(PreprocError):
    """The processes or the cluster that compute spectrograms failed."""


class ExtraMissing(PreprocError):
    """What was asked for needs software that is not installed."""


class GatewayFailed(PreprocError):
    """The batch cannot be had from the gateway, or another worker has it now."""


class OutputFailed(PreprocError):
    """The result could not be written, or another run writes to the same folder."""


class Unwritable(OutputFailed):
    """The system refused to write the output: the disk is full, for example."""

    exit_code = 5

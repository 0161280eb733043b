"""What can stop preprocessing. Each message is one line that says what was there and what is needed.

PreprocError
├── BadParameter        a parameter makes no sense, by itself or together with another
├── UnusableBatch       the directory holds no segment that can be used
├── UnusableChannel     a channel cannot be whitened; the others may still go on
├── NoWindow            what was read does not fill a single window
└── OutputFailed        the result could not be written
"""


class PreprocError(Exception):
    """The work could not be done."""


class BadParameter(PreprocError):
    """A parameter makes no sense, by itself or together with another."""


class UnusableBatch(PreprocError):
    """The directory holds no segment that can be used."""


class UnusableChannel(PreprocError):
    """A channel cannot be whitened."""


class NoWindow(PreprocError):
    """What was read does not fill a single window."""


class OutputFailed(PreprocError):
    """The result could not be written."""

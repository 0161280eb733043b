"""The errors of a cluster test.

ClusterTestError
├── Refused       the test cannot be run here; the cluster was not changed
├── KubectlFailed kubectl failed or timed out
└── StepFailed    the cluster did not do what it should
"""


class ClusterTestError(Exception):
    """Base class; the message is one line."""


class Refused(ClusterTestError):
    """The test was not started."""


class KubectlFailed(ClusterTestError):
    """A call of kubectl failed."""


class StepFailed(ClusterTestError):
    """A check failed."""

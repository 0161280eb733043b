"""What can go wrong with a test of a cluster.

ClusterTestError
├── Refused       the test must not, or cannot, be run here; nothing was touched
├── KubectlFailed kubectl said no, or nothing in time
└── StepFailed    the cluster did something else than it should
"""


class ClusterTestError(Exception):
    """The message is one line for people."""


class Refused(ClusterTestError):
    """The test does not begin."""


class KubectlFailed(ClusterTestError):
    """A call of kubectl did not succeed."""


class StepFailed(ClusterTestError):
    """What was looked at is not as it should be."""

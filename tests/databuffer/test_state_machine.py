"""For any orders, in any sequence and with any failures: the buffer holds what its model holds."""

import pytest
from hypothesis import HealthCheck, Phase, settings

from databuffer.settings import OnFrozen
from tests.support.buffer_machine import BufferMachine


class RejectingMachine(BufferMachine):
    on_frozen = OnFrozen.REJECT


class RotatingMachine(BufferMachine):
    on_frozen = OnFrozen.ROTATE


_bounded = settings(
    max_examples=10,
    stateful_step_count=25,
    derandomize=True,
    phases=[Phase.generate],  # a history of twenty steps is readable as it is; shortening one takes minutes
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestWhatABufferHoldsThatRejectsWhileFrozen = RejectingMachine.TestCase
TestWhatABufferHoldsThatRotatesWhileFrozen = RotatingMachine.TestCase
for _case in (TestWhatABufferHoldsThatRejectsWhileFrozen, TestWhatABufferHoldsThatRotatesWhileFrozen):
    _case.settings = _bounded
    pytest.mark.timeout(300)(_case)  # some hundred steps take a while on a busy machine
del _case  # pytest would collect it again

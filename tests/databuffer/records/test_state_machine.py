"""For any requests about records and steps, in any sequence, with crashes: the buffer says what its model says."""

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.support.record_machine import RecordMachine

_bounded = settings(
    max_examples=6,
    stateful_step_count=50,
    derandomize=True,
    phases=[Phase.generate],  # a history is readable as it is; shortening one takes minutes
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestRecordsAndSteps = RecordMachine.TestCase
TestRecordsAndSteps.settings = settings() if settings.get_current_profile_name() == "long" else _bounded
pytest.mark.timeout(300)(TestRecordsAndSteps)

"""Changes of records and the counts of the steps, read once for all listeners of /events."""

import msgspec

from glitchflow_api.logic_client import LogicClient
from gwwire.records import Record, Steps, StepState

#: Maximum number of records of one event.
_MOST_CHANGES = 100


class RecordChange(msgspec.Struct, frozen=True):
    """A record that changed, with the states of the steps that were begun on it."""

    id: str
    kind: str
    seq: int
    status: str
    last: str | None
    steps: dict[str, StepState]


class RecordNews(msgspec.Struct, frozen=True):
    """Records that changed since the last event; `more`: there are others."""

    items: list[RecordChange]
    more: bool


class Processing:
    """Reads what changed since the last read; the first one begins at the newest change."""

    def __init__(self, logic: LogicClient) -> None:
        self._logic = logic
        self._seq: int | None = None

    async def read(self) -> tuple[RecordNews | None, Steps]:
        """Return the records that changed, or None if none did, and the steps."""
        steps = await self._logic.steps()
        since, self._seq = self._seq, steps.seq
        if since is None or since >= steps.seq:
            return None, steps
        page = await self._logic.records_after(since, _MOST_CHANGES)
        items = [_change(record) for record in page.records if record.seq <= steps.seq]
        return (RecordNews(items, page.more) if items else None), steps


def _change(record: Record) -> RecordChange:
    steps = {step.name: step.state for step in record.steps}
    return RecordChange(record.id, record.kind, record.seq, record.status, record.last, steps)

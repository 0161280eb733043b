"""Orders that take more than one question to the buffer."""

from http import HTTPStatus

import msgspec

from dslogic.buffer_client import BufferClient, Reply
from dslogic.rules import may_freeze, smallest_meant
from gwwire.datastore import FreezeOrder
from gwwire.problems import Problem, ProblemCode

#: How often a decision is taken anew when the batch it was taken on is archived before it is carried out.
_DECISIONS = 5


def freeze(buffer: BufferClient, order: FreezeOrder, max_size: int) -> Reply | None:
    """Freeze the batch in hand if the rules grant it; give the buffer's reply, or None while it has to wait.

    Between the decision and the freeze the batch may be archived by somebody else. The order therefore says how
    many bytes it was meant for, and a refusal for that reason is a reason to decide again.
    """
    for _ in range(_DECISIONS):
        stats, description = buffer.stats(), buffer.description()
        if not may_freeze(stats, description, max_size):
            return None
        reply = buffer.freeze(FreezeOrder(order.user, order.token, smallest_meant(stats)))
        if not refused_as(reply, ProblemCode.BATCH_CHANGED):
            return reply
    return None


def refused_as(reply: Reply, code: ProblemCode) -> bool:
    """Say whether the buffer refused for the reason `code`."""
    return reply.status == HTTPStatus.CONFLICT and msgspec.json.decode(reply.body, type=Problem).code == code

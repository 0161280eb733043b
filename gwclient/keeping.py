"""Advances a cursor by what is acknowledged, as long as it is the same datastore that acknowledges."""

from collections.abc import Callable

from gwclient.client import GlitchflowClient
from gwclient.cursor import Cursor
from gwclient.errors import GatewayRefused
from gwclient.grouping import Sendable
from gwclient.push import Listener, Wrapping
from gwwire.public import BatchState


class Keeping(Wrapping):
    """Advances the cursor, and tells another listener all it hears."""

    def __init__(self, shown: Listener, cursor: Cursor) -> None:
        super().__init__(shown)
        self._cursor = cursor

    def acknowledged(self, piece: Sendable) -> None:
        """Hear that a piece is stored."""
        self._cursor.acknowledge(piece.span)
        super().acknowledged(piece)


async def check_datastore(client: GlitchflowClient, cursor: Cursor, say: Callable[[str], None]) -> None:
    """Forget what another datastore, which was at this address before, acknowledged.

    Raises:
        GatewayError: the gateway cannot be asked.

    """
    try:
        batches = await client.batches()
    except GatewayRefused:
        return  # the original system's gateway knows no batches
    known = [batch.id for batch in batches]
    if not known or cursor.datastore in known:
        return
    if not cursor.empty:
        say(f"{client.base_url} is not the datastore that acknowledged before; everything is sent to it")
    open_ones = [batch.id for batch in batches if batch.state is not BatchState.ARCHIVED]
    cursor.belong_to((open_ones or known)[-1])

"""Find acknowledged segments that are not in the current or the next batch, because they were archived before."""

from contextlib import aclosing, suppress

from gwclient.client import GlitchflowClient
from gwclient.errors import GatewayError
from gwclient.push import Ending, Report
from gwwire.public import BatchState

_PAGE = 10_000


async def note_archived(client: GlitchflowClient, report: Report) -> None:
    """Set `archived` of a report.

    It stays 0 if the push did not end well, if the gateway does not list its segments, or if there are too many of them
    to be kept one by one.
    """
    spans = {(span.channel, span.start): span.stop for span in (*report.acknowledged, *report.before)}
    are_joined = report.segments > len(report.acknowledged)
    if not spans or are_joined or report.ending not in {Ending.COMPLETE, Ending.PARTLY}:
        return
    with suppress(GatewayError):
        batches = await client.batches()
        if not any(batch.state is BatchState.ARCHIVED for batch in batches):
            return
        start, stop = min(start for _, start in spans), max(spans.values())
        there: set[tuple[str, float]] = set()
        for batch in batches:
            if batch.state is not BatchState.ARCHIVED:
                async with aclosing(client.segments(batch=batch.id, start=start, stop=stop, page=_PAGE)) as segments:
                    there |= {(each.channel or "", each.t0) async for each in segments}
        report.archived = len(spans.keys() - there)

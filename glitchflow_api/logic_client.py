"""The gateway's calls of dslogic whose answers it decodes; everything else is relayed."""

from functools import partial
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import quote

import msgspec

from glitchflow_api.bundle_progress import BundleProgress
from glitchflow_api.settings import GatewaySettings
from gwservice.headers import RAW_ADMIN_HEADER, RAW_GROUP_HEADER, RAW_USER_HEADER
from gwservice.security import CallerSecret
from gwservice.upstream import Upstream
from gwservice.upstream_connection import header_lines
from gwwire.bundles import Bundle, BundleOrder
from gwwire.datastore import Description, FlushOrder, FreezeOutcome, Outcome
from gwwire.overview import Overview
from gwwire.public import Health, LogEntry, LogTail, NameList, SegmentPage, Stats
from gwwire.records import LONGEST_WAIT, RecordPage, Steps

T = TypeVar("T")

_JSON = b"content-type: application/json\r\n"
#: dslogic waits up to 30 s for the buffer and then reports that; the gateway waits longer, to receive the report.
_ANSWER_SECONDS = 75.0
#: Readiness is asked to find out who hangs; dslogic waits 3 s for the buffer then.
_READY_SECONDS = 5.0
#: dslogic answers with pages and their files from its memory: if it takes longer, it hangs.
_PAGE_SECONDS = 5.0
_MOST_WAITING = 1024


def group_header(group: str | None) -> bytes:
    """Return the header that names the group whose quotas a request counts for, or nothing without a group."""
    return header_lines([(RAW_GROUP_HEADER, quote(group).encode())]) if group else b""


def caller_headers(user: str | None, group: str | None, *, is_admin: bool = False) -> bytes:
    """Return the headers that name a user, who may be an admin, and a group; without authentication, there are none."""
    named = [] if user is None else [(RAW_USER_HEADER, quote(user).encode())]
    return header_lines(named + ([(RAW_ADMIN_HEADER, b"1")] if is_admin else [])) + group_header(group)


class LogicClient:
    """Calls dslogic.

    Every method raises UpstreamUnreachable, UpstreamSilent or UpstreamInvalid if there is no proper answer, and
    UpstreamProblem if the answer is a problem.
    """

    def __init__(self, settings: GatewaySettings, *, answer_seconds: float = _ANSWER_SECONDS) -> None:
        self._settings = settings
        secret = CallerSecret.load(settings.LOGIC_SECRET_FILE, "glitchflow_api", "LOGIC_SECRET_FILE")
        upstream = partial(
            Upstream, settings.DS_BURL, "dslogic", secret=secret, setting="LOGIC_SECRET_FILE", address="DS_BURL"
        )
        waiting = partial(upstream, seconds=answer_seconds + LONGEST_WAIT)
        self.upstream = upstream(seconds=answer_seconds)
        self._probes = upstream(seconds=_READY_SECONDS)
        self.pages = upstream(seconds=_PAGE_SECONDS)
        #: For requests that wait on purpose: none of a kind must take the connections of the others.
        self.waiting, self.files = (waiting(most=_MOST_WAITING) for _ in range(2))
        self.feeds, self.claims = (waiting(most=settings.max_waiting, limit="MAX_WAITING") for _ in range(2))

    def close(self) -> None:
        """Close the idle connections."""
        for upstream in (self.upstream, self._probes, self.pages, self.waiting, self.files, self.feeds, self.claims):
            upstream.close()

    async def stats(self, group: str | None = None) -> Stats:
        """Return the counts of the current batch, and the quota of a group."""
        return await self.get(self._settings.DS_STAT, Stats, group_header(group))

    async def health(self) -> Health:
        """Return whether dslogic is ready, and whether the buffer can store segments."""
        health = self._probes.decode(await self._probes.request(b"GET", b"/readyz"), HTTPStatus.OK, Health)
        counts = await self._probes.request(b"GET", self._settings.DS_STAT.encode())
        self._probes.decode(counts, HTTPStatus.OK, Stats)  # the route that the setting names is there
        return health

    async def names(self) -> NameList:
        """Return the file names of the current batch."""
        return await self.get(self._settings.DS_DUMPF, NameList)

    async def description(self) -> Description:
        """Return the state and the holder."""
        return await self.get(self._settings.DS_DESC, Description)

    async def freeze(self, order: bytes) -> FreezeOutcome | None:
        """Freeze the batch; return None if the batch is still too small."""
        answer = await self.upstream.request(b"POST", self._settings.DS_FREEZE.encode(), _JSON, [order])
        if answer.status == HTTPStatus.OK:
            return None
        return self.upstream.decode(answer, HTTPStatus.CREATED, FreezeOutcome)

    async def flush(self, order: FlushOrder) -> Outcome:
        """Archive the batch."""
        return await self._order(self._settings.DS_FLUSH, msgspec.json.encode(order))

    async def thaw(self, order: bytes) -> Outcome:
        """Open the frozen batch again, for its holder; the order is passed on unchanged."""
        return await self._order("/thawds", order)

    async def overview(self) -> Overview:
        """Return state, counts, channels, free space and health."""
        return await self.get("/overview", Overview)

    async def log_tail(self, last: int) -> LogTail:
        """Return the newest lines of the log."""
        return LogTail(await self.get(f"/dumpflog?last={last}", list[LogEntry]))

    async def segments_after(self, seq: int, limit: int) -> SegmentPage:
        """Return at most `limit` segments stored after a seq."""
        return await self.get(f"/segments?after={seq}&limit={limit}", SegmentPage)

    async def records_after(self, seq: int, limit: int) -> RecordPage:
        """Return at most `limit` records that changed after a seq; of segments, those that somebody wrote to."""
        return await self.get(f"/records?after={seq}&limit={limit}&segments=written", RecordPage)

    async def steps(self) -> Steps:
        """Return all steps with their counts."""
        return await self.get("/steps", Steps)

    async def make_bundle(self, order: BundleOrder, group: str | None) -> Bundle:
        """Make a bundle for a group."""
        headers = _JSON + group_header(group)
        answer = await self.waiting.request(b"POST", b"/bundles", headers, [msgspec.json.encode(order)])
        status = HTTPStatus.ACCEPTED if answer.status == HTTPStatus.ACCEPTED else HTTPStatus.OK
        return self.waiting.decode(answer, status, Bundle)

    async def bundle_progress(self, bundle: str, after: int | None, seconds: int) -> BundleProgress:
        """Return how far a bundle is built; wait up to `seconds` for the end, or a percent other than `after`."""
        query = f"wait={seconds}" if after is None else f"wait={seconds}&after={after}"
        answer = await self.waiting.request(b"GET", f"/bundles/{quote(bundle, safe='')}?{query}".encode())
        return self.waiting.decode(answer, HTTPStatus.OK, BundleProgress)

    async def get(self, target: str, shape: type[T], headers: bytes = b"") -> T:
        """Return the answer at a path with its query."""
        answer = await self.upstream.request(b"GET", target.encode(), headers)
        return self.upstream.decode(answer, HTTPStatus.OK, shape)

    async def _order(self, target: str, order: bytes) -> Outcome:
        answer = await self.upstream.request(b"POST", target.encode(), _JSON, [order])
        return self.upstream.decode(answer, HTTPStatus.CREATED, Outcome)

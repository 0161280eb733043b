"""The progress of bundles: dslogic is asked once for all who follow a bundle.

A question waits in the buffer until the state or the percent changes, so that a change is known at once. After an
outage it is repeated.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context
from copy import copy

from glitchflow_api.bundle_progress import BundleProgress
from glitchflow_api.logic_client import LogicClient
from gwservice.correlation import RequestContext, set_current_request
from gwservice.upstream import UpstreamProblem
from gwwire.bundles import BundleState
from gwwire.problems import ProblemCode, ProblemError

log = logging.getLogger(__name__)

#: A question waits this long: a service that stops finishes it first.
_WAIT_SECONDS = 5
#: s before the next question, and after one that failed.
_PAUSE_SECONDS, _RETRY_SECONDS = 0.05, 1.0


class Watch:
    """The progress of one bundle, for all who follow it; it ends when the archive is not being built."""

    def __init__(self, logic: LogicClient, bundle: str) -> None:
        self.followers = 0
        self.progress: BundleProgress | None = None
        #: The reason why the bundle cannot be followed.
        self.failure: Exception | None = None
        self._logic = logic
        self._bundle = bundle
        self._change = asyncio.get_running_loop().create_future()
        # In a separate context, because the questions belong to no request.
        self.asking = asyncio.create_task(self._ask(), name="bundle", context=Context())

    def next_change(self) -> asyncio.Future[None]:
        """Return a future of the next change; all who follow share it, so it must not be cancelled."""
        return self._change

    def wake(self) -> None:
        """Wake all who follow."""
        change, self._change = self._change, asyncio.get_running_loop().create_future()
        change.set_result(None)

    async def begin(self) -> None:
        """Wait for the first answer; raise the error of `LogicClient` if it is none."""
        if self.progress is None and self.failure is None:
            await asyncio.wait([self._change])
        match self.failure:
            case UpstreamProblem(answer=answer):
                raise UpstreamProblem(copy(answer))  # its body can be taken once
            case Exception() as failure:
                raise failure

    async def _ask(self) -> None:
        while self.progress is None or self.progress.state is BundleState.BUILDING:
            set_current_request(RequestContext({}))
            try:
                after = self.progress.percent if self.progress else None
                progress = await self._logic.bundle_progress(self._bundle, after, _WAIT_SECONDS if self.progress else 0)
            except Exception as error:  # noqa: BLE001 (it becomes the answer to those who follow)
                if self.progress is None or not _is_outage(error):
                    self.failure = error
                    self.wake()
                    return
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                if progress != self.progress:
                    self.progress = progress
                    self.wake()
                await asyncio.sleep(_PAUSE_SECONDS)


class BundleWatches:
    """The bundles that are followed, one watch for each."""

    def __init__(self, logic: LogicClient) -> None:
        self.closed = False
        self._logic = logic
        self._watches: dict[str, Watch] = {}

    @asynccontextmanager
    async def follow(self, bundle: str) -> AsyncIterator[Watch]:
        """Yield the watch of a bundle with its progress; raise the error of `LogicClient` if there is none."""
        watch = self._watches.get(bundle)
        if watch is None or watch.asking.done():
            watch = self._watches[bundle] = Watch(self._logic, bundle)
        watch.followers += 1
        try:
            await watch.begin()
            yield watch
        finally:
            watch.followers -= 1
            if not watch.followers:
                watch.asking.cancel()
                if self._watches.get(bundle) is watch:
                    del self._watches[bundle]

    def close(self) -> None:
        """Wake all who follow a bundle: the service stops."""
        self.closed = True
        for watch in self._watches.values():
            watch.wake()


def _is_outage(error: Exception) -> bool:
    """Return whether a question may be answered later; the log has an error that is not expected."""
    if isinstance(error, UpstreamProblem):
        return error.answer.status != ProblemCode.NOT_FOUND.status
    if not isinstance(error, ProblemError):
        log.error("the progress of a bundle cannot be read", exc_info=error)
        return False
    return True

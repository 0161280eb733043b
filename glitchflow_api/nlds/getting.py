"""Get: files of holdings are written to the shared folders."""

import asyncio
from collections.abc import Iterator
from itertools import islice

from glitchflow_api.nlds.calls import CALL_FAILED, HoldingCalls, Patience, detail_of, patiently
from glitchflow_api.nlds.jobs import Job, NldsState, Part
from glitchflow_api.nlds.selection import Selection, find_files, find_holdings, not_found
from glitchflow_api.nlds.shared_files import Failure, NotPossible, Restoring, SharedFiles, reason_of
from glitchflow_api.nlds.slots import Slots
from gwwire.holdings import Holding, HoldingFile

#: Paths of a part.
_PART = 1000


class Get:
    """Gets the files of a transaction; `slots` limits the transfers at the same time."""

    def __init__(self, job: Job, calls: HoldingCalls, files: SharedFiles, slots: Slots) -> None:
        self._job, self._calls, self._files, self._slots = job, calls, files, slots
        order = job.order
        self._selection = Selection(
            user=job.user,
            group=job.group,
            groupall=order.groupall,
            label=order.label,
            holding=order.holding,
            tag=order.tag,
            regex=order.regex,
        )

    async def run(self) -> None:
        """Get all files, part by part; a file that is there with the same bytes is left."""
        part: Part | None = self._job.begin_part(NldsState.CATALOG_GETTING)
        holdings: list[Holding] | None = None
        if self._selection.is_specific:
            holdings = await patiently(lambda: find_holdings(self._calls, self._selection))
            self._job.label = holdings[0].label if len(holdings) == 1 else self._job.label
        paths = iter(dict.fromkeys(self._job.order.paths))
        some = _some(paths)
        while part:
            following = _some(paths)
            after = self._job.begin_part(NldsState.CATALOG_GETTING) if following else None
            await self._get(part, some, holdings)
            part, some = after, following

    async def _get(self, part: Part, paths: list[str], holdings: list[Holding] | None) -> None:
        wanted: dict[str, HoldingFile] = {}
        for path in paths:
            found, reason = await self._find(path, holdings)
            if found:
                wanted.update({each.path: each for each in found})
            else:
                part.failed.append(Failure(path, reason))
        part.enter(NldsState.TRANSFER_GETTING)
        await asyncio.gather(*(self._fetch(part, each) for each in wanted.values()))
        part.end()

    async def _find(self, path: str, holdings: list[Holding] | None) -> tuple[list[HoldingFile], str]:
        """Return the files that a path means, or else the reason why there are none."""
        if holdings == []:
            return [], not_found(self._selection)
        try:
            found = await patiently(lambda: find_files(self._calls, self._selection, holdings, path))
        except CALL_FAILED as error:
            return [], detail_of(error)
        return found, f"no such file{self._selection.described()}"

    async def _fetch(self, part: Part, file: HoldingFile) -> None:
        async with self._slots:
            try:
                writing = await self._slots.in_thread(self._files.restore, self._job.order.target, file, self._job.id)
                if writing:
                    with writing:
                        await self._receive(part, file, writing)
            except CALL_FAILED as error:
                part.failed.append(Failure(file.path, detail_of(error)))
            except (NotPossible, OSError) as error:
                part.failed.append(Failure(file.path, reason_of(error)))
            else:
                part.complete += 1

    async def _receive(self, part: Part, file: HoldingFile, writing: Restoring) -> None:
        patience = Patience()
        while writing.size < file.size:
            try:
                async for piece in self._calls.content(file, writing.size):
                    await self._slots.in_thread(writing.write, piece)
            except CALL_FAILED as error:
                await patience.wait_or_raise(error, on_tape=lambda: part.enter(NldsState.ARCHIVE_GETTING))
        await self._slots.in_thread(writing.finish)


def _some(paths: Iterator[str]) -> list[str]:
    return list(islice(paths, _PART))

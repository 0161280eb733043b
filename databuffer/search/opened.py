"""The archives that were opened last: a large one is downloaded in many ranges, each by a request."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from databuffer.search.archive import Archive
from databuffer.search.table import BundleRow

#: Bytes of memory of the archives that are kept, about. The largest archive has half of them.
_MOST = 64 * 1024**2


class OpenedArchives:
    """Opens archives, and keeps the last ones while they take at most `most` bytes of memory, or the very last.

    It takes a third of a second to read the list of 100,000 segments, and to compute where their files are.
    """

    def __init__(self, open_archive: Callable[[BundleRow], Archive], most: int = _MOST) -> None:
        self._open = open_archive
        self._most = most
        self._kept: OrderedDict[str, tuple[str, Archive]] = OrderedDict()
        self._opening = asyncio.Lock()

    async def get(self, row: BundleRow) -> Archive:
        """Return the archive of a bundle; it is opened again if the digest, or what else describes it, has changed."""
        async with self._opening:
            info, archive = self._kept.pop(row.id, ("", None))
            if archive is None or info != row.info:
                archive = await asyncio.to_thread(self._open, row)
            self._kept[row.id] = row.info, archive
            while len(self._kept) > 1 and sum(each.memory for _, each in self._kept.values()) > self._most:
                self._kept.popitem(last=False)
        return archive

    def forget(self, *bundles: str) -> None:
        """Close the archives of some bundles."""
        for bundle in bundles:
            self._kept.pop(bundle, None)

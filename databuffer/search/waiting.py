"""Requests that wait until a bundle changes."""

import asyncio
from weakref import WeakValueDictionary


class BundleChanges:
    """The changes of bundles, for requests that wait for them; used in the event loop only."""

    def __init__(self) -> None:
        self.stopping = False
        #: Futures that nobody waits for any more disappear.
        self._next: WeakValueDictionary[str, asyncio.Future[None]] = WeakValueDictionary()

    def next_change(self, bundle: str) -> asyncio.Future[None]:
        """Return a future of the next change of a bundle; several requests share it, so it must not be cancelled."""
        return self._next.setdefault(bundle, asyncio.get_running_loop().create_future())

    def announce(self, bundle: str) -> None:
        """Wake the requests that wait for a bundle."""
        if change := self._next.pop(bundle, None):
            change.set_result(None)

    def stop_waiting(self) -> None:
        """Wake every request, and let none wait from now on: the service is stopping."""
        self.stopping = True
        for bundle in list(self._next):
            self.announce(bundle)

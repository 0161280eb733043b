"""The progress of a bundle, as an event and as a text."""

from msgspec import Struct

from gwwire.bundles import BundleState


class BundleProgress(Struct, frozen=True, omit_defaults=True):
    """The progress of the archive of a bundle; `reason` is that of the last failure."""

    id: str
    state: BundleState
    percent: int
    reason: str | None = None

    def text(self) -> str:
        """Return it as the text of a WebSocket: `BUILDING 42%`, `READY`, `FAILED reason`, `CANCELLED`, `EXPIRED`."""
        if self.state is BundleState.BUILDING:
            return f"{self.state} {self.percent}%"
        return f"{self.state} {self.reason}" if self.reason else str(self.state)

"""The progress of a push: a bar on a terminal, a few plain lines elsewhere, nothing with --json."""

import time
from typing import TextIO

from tqdm import tqdm

from gwclient.amounts import count_text
from gwclient.groups import Sendable
from gwclient.push import Listener
from gwwire.names import printable

#: s between two plain lines, and between two notices of the same kind.
_PAUSE_S = 5.0


class Progress(Listener):
    """Shows the progress of `seconds` s of strain (None if unknown) on a stream; if `quiet`, notices only."""

    def __init__(self, stream: TextIO, seconds: float | None, *, quiet: bool = False) -> None:
        super().__init__()
        self._stream, self._seconds, self._quiet = stream, seconds, quiet
        self._done, self._segments = 0.0, 0
        self._last_line, self._last_notice = time.monotonic(), -_PAUSE_S
        self._bar = None
        if stream.isatty() and not quiet:
            total = seconds and round(seconds, 3)
            self._bar = tqdm(total=total, unit="s", unit_scale=True, desc="strain", file=stream, leave=False)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

    def acknowledged(self, piece: Sendable) -> None:
        """Advance the bar."""
        seconds = piece.span.stop - piece.span.start
        self._done += seconds
        self._segments += 1
        if self._bar is not None:
            self._bar.update(seconds)
        elif not self._quiet and time.monotonic() - self._last_line > _PAUSE_S:
            self._last_line = time.monotonic()
            of_all = "" if self._seconds is None else f" of {self._seconds:,.0f} s"
            done = f"{count_text(self._segments, 'segment')}, {self._done:,.0f} s{of_all}"
            self.say(f"{done} of strain, all channels together")

    def refused(self, piece: Sendable, reason: str) -> None:
        """Show a refusal, unless another notice was shown just before."""
        self._notice(f"segment at GPS {piece.span.start!r} of {piece.span.channel} refused: {reason}")

    def frozen(self, poll: float) -> None:
        """Show that the push waits."""
        self.say(f"the datastore is frozen; waiting, asking every {poll:g} s")

    def thawed(self) -> None:
        """Show that the push continues."""
        self.say("the datastore is open again; going on")

    def retrying(self, reason: str, delay: float) -> None:
        """Show a retry, unless another notice was shown just before."""
        self._notice(f"{reason}; trying again in {delay:.1f} s")

    def note(self, words: str) -> bool:
        """Show a text beside the bar; return False if there is no bar."""
        if self._bar is None:
            return False
        self._bar.set_postfix_str(words)
        return True

    def say(self, line: str) -> None:
        """Write a line without breaking the bar."""
        if self._bar is not None:
            self._bar.write(line, file=self._stream)
        else:
            self._stream.write(line + "\n")
            self._stream.flush()

    def _notice(self, line: str) -> None:
        if time.monotonic() - self._last_notice >= _PAUSE_S:
            self._last_notice = time.monotonic()
            self.say(printable(line))

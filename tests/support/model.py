"""The expected state of a buffer, step by step: names and bytes in their places, and segments without an answer."""

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gwwire.datastore import FreezeOrder

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Layout:
    """The place of every segment: in the current batch, the next one, or an archive.

    A frozen batch has a holder.
    """

    hand: Files = field(default_factory=dict)
    next: Files = field(default_factory=dict)
    archives: tuple[Files, ...] = ()
    holder: FreezeOrder | None = None

    @property
    def size(self) -> int:
        """Bytes of the current batch."""
        return sum(map(len, self.hand.values()))

    @property
    def files(self) -> dict[str, bytes]:
        """Every segment, in all places."""
        everything = [*self.archives, self.hand, self.next]
        found = {name: content for files in everything for name, content in files.items()}
        assert len(found) == sum(map(len, everything)), "a segment is in two places"
        return found

    @property
    def open_files(self) -> Files:
        """Every segment that is not archived."""
        return {**self.hand, **self.next}

    def stored(self, name: str, content: bytes) -> "Layout":
        if self.holder is None:
            return replace(self, hand={**self.hand, name: content})
        return replace(self, next={**self.next, name: content})

    def frozen(self, order: FreezeOrder) -> "Layout":
        return self if self.holder else replace(self, holder=order)

    def thawed(self) -> "Layout":
        return Layout(self.open_files, {}, self.archives)

    def flushed(self) -> "Layout":
        return Layout(self.next, {}, (*self.archives, self.hand) if self.hand else self.archives)


@dataclass
class Model:
    """The expected state of the buffer.

    Attributes:
        layout: the place of every segment.
        unanswered: the (key, content) of segments that were neither acknowledged nor refused as invalid.
        strays: segments that are stored, but were never acknowledged.
        keys: the name and content that each key is known to stand for.
        lost_keys: the same, for keys that a lost catalog may have contained.
        claimable: segments whose key is unknown since the catalog was lost.

    """

    layout: Layout = field(default_factory=Layout)
    unanswered: list[tuple[str | None, bytes]] = field(default_factory=list)
    strays: set[str] = field(default_factory=set)
    keys: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    lost_keys: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    claimable: set[str] = field(default_factory=set)

    def acknowledge(self, name: str, content: bytes, key: str | None) -> None:
        """Update the model by an answer, or fail if the answer is impossible."""
        known = self.layout.files.get(name)
        if key in self.keys:
            assert self.keys[key] == (name, content), "a key got another answer than at first"
            return
        if known is None:
            assert not self._still_open(key, content), "a retry was stored a second time"
            self.layout = self.layout.stored(name, content)
        else:
            assert known == content, "an answer names other bytes"
            assert key is not None, "two requests got the same name"
            mine = self.lost_keys.get(key) == (name, content)
            assert mine or name in self.strays | self.claimable, "a new key got somebody else's segment"
            if not mine and name not in self.strays:
                self._replace_by_equal_segment(content)
        self.strays.discard(name)
        self.claimable.discard(name)
        self.lost_keys = {other: stands for other, stands in self.lost_keys.items() if stands[0] != name}
        if key is not None:
            self.keys[key] = name, content
            self.unanswered = [each for each in self.unanswered if each != (key, content)]

    def may_be_reused(self, key: str | None, content: bytes) -> bool:
        """Return whether a key may have been used for other bytes before."""
        stands_for = [stands[1] for keys in (self.keys, self.lost_keys) for k, stands in keys.items() if k == key]
        return any(other != content for other in [*stands_for, *(c for k, c in self.unanswered if k == key)])

    def settle(self, observed: Layout, possible: list[Layout]) -> None:
        """Accept the observed state if it is one of the possible outcomes of unanswered requests."""
        assert any(_holds(observed, layout) for layout in possible), (
            f"there is\n{observed}\nbut it should be one of\n{possible}"
        )
        self.strays |= observed.files.keys() - self.layout.files.keys()
        allowed = Counter(content for key, content in self.unanswered if key is None)
        allowed.update(content for _, content in {each for each in self.unanswered if each[0] is not None})
        strays = Counter(observed.files[name] for name in self.strays)
        assert strays <= allowed, f"something is stored that nobody sent, or twice: {strays}, not {allowed}"
        self.layout = observed

    def lose_catalog(self) -> None:
        """Remove what only the catalog contained: the keys of segments that are archived by now."""
        self.strays &= self.layout.open_files.keys()
        self.lost_keys |= self.keys
        self.keys = {}
        self.claimable |= self.layout.open_files.keys()

    def _replace_by_equal_segment(self, content: bytes) -> None:
        """Replace a claimed segment by another one with the same bytes; the two cannot be distinguished."""
        for name in [name for name in self.strays if self.layout.files[name] == content][:1]:
            self.strays.discard(name)
            self.claimable.add(name)

    def _still_open(self, key: str | None, content: bytes) -> bool:
        stands = self.lost_keys.get(key or "")
        return stands is not None and stands[1] == content and stands[0] in self.layout.open_files


def _holds(observed: Layout, layout: Layout) -> bool:
    """Return whether every segment is in its place; the open batches may contain more."""
    return (
        observed.holder == layout.holder
        and _same_archives(observed, layout)
        and all(
            there.items() >= expected.items()
            for there, expected in ((observed.hand, layout.hand), (observed.next, layout.next))
        )
    )


def _same_archives(observed: Layout, layout: Layout) -> bool:
    there, expected = (sorted(sorted(files.items()) for files in each.archives) for each in (observed, layout))
    return len(there) == len(expected) and all(
        itertools.starmap(lambda a, b: a == b, zip(there, expected, strict=True))
    )

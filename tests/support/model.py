"""What a buffer must hold, step by step: names and bytes in their places, and what it may still owe an answer for."""

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gwwire.datastore import FreezeOrder

Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Layout:
    """Where every segment is: in the batch in hand, the next one, or an archive.

    A frozen batch has a holder.
    """

    hand: Files = field(default_factory=dict)
    next: Files = field(default_factory=dict)
    archives: tuple[Files, ...] = ()
    holder: FreezeOrder | None = None

    @property
    def size(self) -> int:
        """Bytes of the batch in hand."""
        return sum(map(len, self.hand.values()))

    @property
    def files(self) -> dict[str, bytes]:
        """Every segment, wherever it is."""
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
    """What the buffer must hold.

    Attributes:
        layout: where every segment is.
        unanswered: the (key, content) of what was sent, but neither acknowledged nor refused for its own sake.
        strays: segments that are there, but were never acknowledged.
        keys: the name and content that each key is known to stand for.
        lost_keys: the same, for keys that a lost catalog may have taken along.
        claimable: segments that nobody knows the key of, since the catalog was lost.

    """

    layout: Layout = field(default_factory=Layout)
    unanswered: list[tuple[str | None, bytes]] = field(default_factory=list)
    strays: set[str] = field(default_factory=set)
    keys: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    lost_keys: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    claimable: set[str] = field(default_factory=set)

    def acknowledge(self, name: str, content: bytes, key: str | None) -> None:
        """Believe an answer, or fail where it cannot be true."""
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
                self._let_a_twin_step_in(content)
        self.strays.discard(name)
        self.claimable.discard(name)
        self.lost_keys = {other: stands for other, stands in self.lost_keys.items() if stands[0] != name}
        if key is not None:
            self.keys[key] = name, content
            self.unanswered = [each for each in self.unanswered if each != (key, content)]

    def may_be_reused(self, key: str | None, content: bytes) -> bool:
        """Tell whether a key may have come with other bytes before."""
        stands_for = [stands[1] for keys in (self.keys, self.lost_keys) for k, stands in keys.items() if k == key]
        return any(other != content for other in [*stands_for, *(c for k, c in self.unanswered if k == key)])

    def settle(self, observed: Layout, possible: list[Layout]) -> None:
        """Take what is there for granted, where it is one of what is possible and what was not answered for."""
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
        """Forget what only the catalog knew: with what keys segments came that are archived by now."""
        self.strays &= self.layout.open_files.keys()
        self.lost_keys |= self.keys
        self.keys = {}
        self.claimable |= self.layout.open_files.keys()

    def _let_a_twin_step_in(self, content: bytes) -> None:
        """A segment with the same bytes is now what the claimed one was; nobody can tell them apart."""
        for name in [name for name in self.strays if self.layout.files[name] == content][:1]:
            self.strays.discard(name)
            self.claimable.add(name)

    def _still_open(self, key: str | None, content: bytes) -> bool:
        stands = self.lost_keys.get(key or "")
        return stands is not None and stands[1] == content and stands[0] in self.layout.open_files


def _holds(observed: Layout, layout: Layout) -> bool:
    """Tell whether everything is where it should be; more may have come to the open batches."""
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

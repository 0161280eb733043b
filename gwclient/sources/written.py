"""Check that all samples of an HDF5 dataset are in a file: the library reads others as zeros, without an error."""

import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py

#: Virtual datasets of virtual datasets that are followed.
_DEEPEST = 8


def is_written(dataset: Any, depth: int = 0) -> bool:
    """Return whether all values of a dataset were written, in this file or in the others that it refers to."""
    if dataset.is_virtual:
        sources = dataset.virtual_sources()
        covered = _union(span for each in sources for span in _spans(each.vspace, len(dataset)))
        return covered == [(0, len(dataset))] and all(_source_is_written(dataset, each, depth) for each in sources)
    if dataset.external:
        return bool(sum(_bytes_there(*each) for each in dataset.external) >= dataset.nbytes)
    if dataset.chunks:
        chunks = math.prod(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
        return bool(dataset.id.get_num_chunks() == chunks)
    return bool(dataset.id.get_storage_size())


def _source_is_written(dataset: Any, source: Any, depth: int) -> bool:
    """Return whether the dataset that a part of a virtual one refers to is there, whole, and large enough."""
    if depth == _DEEPEST:
        return False
    if source.file_name == ".":
        return _has(dataset.file, source, depth)
    with suppress(OSError), h5py.File(Path(dataset.file.filename).parent / source.file_name, "r") as file:
        return _has(file, source, depth)
    return False


def _has(file: Any, source: Any, depth: int) -> bool:
    found = file.get(source.dset_name)
    if not isinstance(found, h5py.Dataset) or not found.shape:
        return False
    return _is_inside(source, found.shape) and is_written(found, depth + 1)


def _is_inside(source: Any, shape: Sequence[int]) -> bool:
    """Return whether a dataset of a shape has all values that a part of a virtual one takes from it."""
    space = source.src_space
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS:  # all of it; often its shape is unknown
        return bool(math.prod(shape) >= source.vspace.get_select_npoints())
    needed = space.get_select_hyper_blocklist()[:, 1].max(axis=0) + 1
    return len(needed) == len(shape) and all(n <= size for n, size in zip(needed, shape, strict=True))


def _spans(space: Any, size: int) -> list[tuple[int, int]]:
    """Return the [first, last) of the values that a selection of one dimension has."""
    if space.get_select_type() != h5py.h5s.SEL_HYPERSLABS:
        return [(0, size)] if space.get_select_type() == h5py.h5s.SEL_ALL else []
    return [(int(first[0]), int(last[0]) + 1) for first, last in space.get_select_hyper_blocklist()]


def _union(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if joined and first <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(last, joined[-1][1])
        else:
            joined.append((first, last))
    return joined


def _bytes_there(name: str | bytes, offset: int, size: int) -> int:
    """Return how many of the bytes of a part of a dataset in another file are there; it may end before them."""
    with suppress(OSError):
        return max(0, min(Path(name.decode() if isinstance(name, bytes) else name).stat().st_size - offset, size))
    return 0

"""One run: from a batch to a folder with everything that is wanted of it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from preproc.batch import digest_directory
from preproc.dataset import job_of
from preproc.errors import ExtraMissing
from preproc.executors import Executor
from preproc.exports import export_annalisa, write_qt
from preproc.job import job_key, working_in
from preproc.parameters import Parameters
from preproc.pipeline import preprocess
from preproc.plots import draw_contact_sheet
from preproc.progress import Progress
from preproc.report import PAGE, REPORT, products_of, write_report

DATASET = "dataset.h5"
PICTURE = "spectrograms.png"
QT = "QT.pt"
ANNALISA = "annalisa"
#: The folder in the output for segments that were fetched; it is removed when the run is complete.
_FETCHED = ".batch"


class Source(Protocol):
    """Where a batch comes from."""

    def digest(self, progress: Progress, /) -> str:
        """Return the digest of the batch (see `gwwire.manifest.batch_digest`)."""

    def directory(self, folder: Path, progress: Progress, /) -> Path:
        """Return the directory with the segments; those that have to be fetched are stored within `folder`."""


@dataclass(frozen=True)
class DirectorySource:
    """A directory of segment files."""

    path: Path

    def digest(self, progress: Progress, /) -> str:
        """Return the digest of the files."""
        return digest_directory(self.path, progress)

    def directory(self, _folder: Path, _progress: Progress, /) -> Path:
        """Return the directory."""
        return self.path


@dataclass(frozen=True)
class Request:
    """What is wanted of the batch `source` in the folder `out`."""

    source: Source
    out: Path
    parameters: Parameters
    exports: frozenset[str] = frozenset()  # what to make beside the dataset: `QT`, `ANNALISA`
    target: str | None = None  # the channel that comes first in `QT`; None: the first one


def fulfil(
    request: Request, progress: Progress, executor: Executor, before_publishing: Callable[[], None] = lambda: None
) -> bool:
    """Make what is requested and missing; return whether anything was, or raise PreprocError.

    It may be interrupted at any point: each file is complete or missing, and the next run continues. What
    `before_publishing` raises when the dataset is computed keeps it from being published.
    """
    dataset = request.out / DATASET
    with working_in(request.out):
        if job_of(dataset) != job_key(request.source.digest(progress), request.parameters):
            (request.out / REPORT).unlink(missing_ok=True)
            data = request.source.directory(request.out / _FETCHED, progress)
            preprocess(data, dataset, request.parameters, progress, executor, before_publishing)
        there = products_of(request.out, str(job_of(dataset)))
        todo = [name for name in (PICTURE, *sorted(request.exports)) if name not in there]
        if todo:
            _make(request, todo, there - {DATASET, PAGE}, progress)
        shutil.rmtree(request.out / _FETCHED, ignore_errors=True)
        return bool(todo)


def _make(request: Request, todo: list[str], made: set[str], progress: Progress) -> None:
    dataset = request.out / DATASET
    (request.out / REPORT).unlink(missing_ok=True)
    missing: ExtraMissing | None = None
    for name in progress(todo, "exporting"):
        path = request.out / name
        if name == PICTURE:
            draw_contact_sheet(dataset, path)
        elif name == ANNALISA:
            export_annalisa(request.source.directory(request.out / _FETCHED, progress), dataset, path, progress)
        else:
            try:
                write_qt(dataset, path, request.target)
            except ExtraMissing as error:
                missing = error
                continue
        made.add(name)
    write_report(dataset, request.out / PICTURE, request.out, [DATASET, *sorted(made)])
    if missing is not None:
        raise missing

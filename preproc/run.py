"""One run: make the dataset of a batch and the other products in a folder."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from preproc.batch import digest_directory, read_manifest
from preproc.dataset import batch_of, job_of
from preproc.errors import ExtraMissing, OutputFailed
from preproc.executors import Executor
from preproc.exports import export_annalisa, write_qt
from preproc.job import job_key, working_in
from preproc.parameters import Parameters
from preproc.pipeline import preprocess
from preproc.plots import draw_contact_sheet
from preproc.progress import Progress
from preproc.publish import withdraw
from preproc.report import PAGE, REPORT, products_of, write_report

DATASET = "dataset.h5"
PICTURE = "spectrograms.png"
QT = "QT.pt"
ANNALISA = "annalisa"
#: The folder in the output for segments that were fetched; it is removed when the run is complete.
_FETCHED = ".batch"


class Source(Protocol):
    """The origin of a batch."""

    def digest(self, progress: Progress, /) -> str:
        """Return the digest of the batch (see `gwwire.manifest.batch_digest`)."""

    def batch_id(self) -> str | None:
        """Return the id of the batch, or None if it is not sealed."""

    def directory(self, folder: Path, progress: Progress, /) -> Path:
        """Return the directory with the segments; those that have to be fetched are stored within `folder`."""


@dataclass(frozen=True)
class DirectorySource:
    """A directory of segment files."""

    path: Path

    def digest(self, progress: Progress, /) -> str:
        """Return the digest of the files."""
        return digest_directory(self.path, progress)

    def batch_id(self) -> str | None:
        """Return the id in the manifest, or None if there is none."""
        manifest = read_manifest(self.path)
        return None if manifest is None else manifest.batch

    def directory(self, _folder: Path, _progress: Progress, /) -> Path:
        """Return the directory."""
        return self.path


@dataclass(frozen=True)
class Request:
    """The products to make of the batch `source` in the folder `out`."""

    source: Source
    out: Path
    parameters: Parameters
    exports: frozenset[str] = frozenset()  # products besides the dataset: `QT`, `ANNALISA`
    target: str | None = None  # the channel that comes first in `QT`, or None for the first by name


def fulfil(
    request: Request,
    progress: Progress,
    executor: Executor,
    before_publishing: Callable[[], None] = lambda: None,
    notify: Callable[[str], None] = lambda _: None,
) -> bool:
    """Make the requested products that are missing; return whether any was missing, or raise PreprocError.

    Raises OutputFailed, before anything is changed, if the folder holds the dataset of another batch. An interruption
    at any point is safe: each file is complete or missing, and the next run continues. For `before_publishing` and
    `notify`, see `preprocess`.
    """
    dataset = request.out / DATASET
    with working_in(request.out):
        digest = request.source.digest(progress)
        if job_of(dataset) != job_key(digest, request.parameters):
            refuse_another_batch(dataset, request.source.batch_id(), digest)
            withdraw(request.out / REPORT)
            data = request.source.directory(request.out / _FETCHED, progress)
            preprocess(data, dataset, request.parameters, progress, executor, before_publishing, notify)
        there = products_of(request.out, str(job_of(dataset)))
        todo = [name for name in (PICTURE, *sorted(request.exports)) if name not in there]
        if todo:
            _make(request, todo, there - {DATASET, PAGE}, progress)
        shutil.rmtree(request.out / _FETCHED, ignore_errors=True)
        return bool(todo)


def refuse_another_batch(dataset: Path, batch: str | None, digest: str) -> None:
    """Raise OutputFailed if a dataset is not that of the batch with this id or digest."""
    its_id, its_digest = batch_of(dataset)
    # A batch that was thawed and frozen again has the same id and another digest.
    if its_digest not in {digest, None} and (its_id is None or its_id != batch):
        name = its_id or f"with the digest {str(its_digest)[:12]}"
        raise OutputFailed(f"{dataset.parent} holds the dataset of another batch, {name}; choose another --out")


def _make(request: Request, todo: list[str], made: set[str], progress: Progress) -> None:
    dataset = request.out / DATASET
    withdraw(request.out / REPORT)
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

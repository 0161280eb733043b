"""One run: from a batch to a folder with everything that is wanted of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from preproc.annalisa import export_annalisa
from preproc.dataset import job_of
from preproc.errors import ExtraMissing
from preproc.executors import Executor
from preproc.job import job_key, working_in
from preproc.parameters import Parameters
from preproc.pipeline import preprocess
from preproc.plots import draw_contact_sheet
from preproc.progress import Progress
from preproc.qt import write_qt
from preproc.report import REPORT, products_of, write_report
from preproc.source import Source

DATASET = "dataset.h5"
PICTURE = "spectrograms.png"
QT = "QT.pt"
ANNALISA = "annalisa"


@dataclass(frozen=True)
class Request:
    """What is wanted.

    Attributes:
        source: the batch.
        out: the folder of the result.
        parameters: what decides the dataset.
        exports: what to make beside the dataset: `QT`, `ANNALISA`.
        target: the channel that comes first in `QT`; None: the first one.

    """

    source: Source
    out: Path
    parameters: Parameters
    exports: frozenset[str] = frozenset()
    target: str | None = None


def fulfil(
    request: Request, progress: Progress, executor: Executor, before_publishing: Callable[[], None] = lambda: None
) -> bool:
    """Make what is requested and missing; return whether anything was.

    It may be interrupted at any point: each file is complete or missing, and the next run continues.

    Args:
        request: what is wanted.
        progress: shows how far it is.
        executor: computes the spectrograms.
        before_publishing: is called when the dataset is computed; what it raises keeps it from being published.

    Raises:
        PreprocError: it could not be made.

    """
    dataset = request.out / DATASET
    with working_in(request.out):
        digest = request.source.digest(progress)
        fresh = job_of(dataset) == job_key(digest, request.parameters)
        if not fresh:
            (request.out / REPORT).unlink(missing_ok=True)
            data = request.source.directory(request.out, progress)
            preprocess(data, dataset, request.parameters, progress, executor, before_publishing)
        there = products_of(request.out, str(job_of(dataset)))
        todo = [name for name in (PICTURE, *sorted(request.exports)) if name not in there]
        if todo:
            _make(request, todo, there - {DATASET}, progress)
        request.source.forget(request.out)
        return bool(todo)


def _make(request: Request, todo: list[str], there: set[str], progress: Progress) -> None:
    dataset, report = request.out / DATASET, request.out / REPORT
    report.unlink(missing_ok=True)
    missing: ExtraMissing | None = None
    made = set(there)
    for name in progress(todo, "exporting"):
        path = request.out / name
        if name == PICTURE:
            draw_contact_sheet(dataset, path)
        elif name == ANNALISA:
            export_annalisa(request.source.directory(request.out, progress), dataset, path, progress)
        else:
            try:
                write_qt(dataset, path, request.target)
            except ExtraMissing as error:
                missing = error
                continue
        made.add(name)
    write_report(
        dataset,
        request.out / PICTURE,
        request.out,
        [DATASET, *sorted(name for name in made if not name.startswith("report"))],
    )
    if missing is not None:
        raise missing

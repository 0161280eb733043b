"""One run: make the dataset of a batch and the other products in a folder."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import h5py

from preproc.batch import digest_directory, read_manifest
from preproc.dataset import batch_of, channels_of, job_of
from preproc.errors import BadParameter, ExtraMissing, OutputFailed, PreprocError
from preproc.executors import Executor
from preproc.exports import export_annalisa, write_qt
from preproc.job import job_key, working_in
from preproc.parameters import Parameters
from preproc.pipeline import preprocess
from preproc.plots import draw_contact_sheet, draw_window
from preproc.products import Product, Products
from preproc.progress import Progress
from preproc.publish import Publish
from preproc.report import REPORT, write_report

DATASET = "dataset.h5"
PICTURE = "spectrograms.png"
QT = "QT.pt"
ANNALISA = "annalisa"
#: The folder in the output for segments that were fetched; it is removed when the run is complete.
_FETCHED = ".batch"
#: A function that returns whether a file of a product is there.
IsThere = Callable[[Path], bool]
#: A function that makes a product (see `Products.making`).
Make = Callable[[Publish, IsThere], None]


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
    windows: tuple[int, ...] = ()  # windows to draw by themselves

    @property
    def dataset(self) -> Path:
        """The path of the dataset."""
        return self.out / DATASET


def fulfil(
    request: Request,
    progress: Progress,
    executor: Executor,
    before_publishing: Callable[[], None] = lambda: None,
    notify: Callable[[str], None] = lambda _: None,
) -> bool:
    """Make the requested products that are missing; return whether any was missing, or raise PreprocError.

    Raises OutputFailed, before anything is changed, if the folder holds the dataset of another batch. An interruption
    at any point is safe: each file is complete or missing, and the next run continues. The products of another job are
    removed before the dataset is replaced. For `before_publishing` and `notify`, see `preprocess`.
    """
    with working_in(request.out):
        products = Products(request.out)
        digest = request.source.digest(progress)
        job = job_key(digest, request.parameters)

        def withdraw_others() -> None:
            before_publishing()
            _keep_only(products, job, notify)

        if job_of(request.dataset) != job:
            refuse_another_batch(request.dataset, request.source.batch_id(), digest)
            data = request.source.directory(request.out / _FETCHED, progress)
            preprocess(data, request.dataset, request.parameters, progress, executor, withdraw_others, notify)
        changed = _make_missing(request, products, progress, notify)
        shutil.rmtree(request.out / _FETCHED, ignore_errors=True)
        return changed


def draw_windows(dataset: Path, windows: Sequence[int], folder: Path) -> Iterator[Path]:
    """Draw windows of a dataset into a folder, and yield the pictures; in its own folder, they are products."""
    pictures = {window: folder / window_picture(window) for window in windows}
    if _is_of(folder, dataset):
        with working_in(folder):
            products, job = Products(folder), str(job_of(dataset))
            for window, picture in pictures.items():
                with products.making(Product(picture.name, job)) as (publish, _):
                    draw_window(dataset, window, picture, publish)
                yield picture
    else:
        for window, picture in pictures.items():
            draw_window(dataset, window, picture)
            yield picture


def _is_of(folder: Path, dataset: Path) -> bool:
    with suppress(OSError):
        return (folder / DATASET).samefile(dataset)
    return False


def window_picture(window: int) -> str:
    """Return the name of the picture of one window."""
    return f"window-{window}.png"


def refuse_another_batch(dataset: Path, batch: str | None, digest: str) -> None:
    """Raise OutputFailed if a dataset is not that of the batch with this id or digest."""
    its_id, its_digest = batch_of(dataset)
    # A batch that was thawed and frozen again has the same id and another digest.
    if its_digest not in {digest, None} and (its_id is None or its_id != batch):
        name = its_id or f"with the digest {str(its_digest)[:12]}"
        raise OutputFailed(f"{dataset.parent} holds the dataset of another batch, {name}; choose another --out")


def _keep_only(products: Products, job: str, notify: Callable[[str], None]) -> None:
    for path in products.keep_only(job):
        notify(f"{path} was changed after it was written: it stays, but is not of this dataset")


def _make_missing(request: Request, products: Products, progress: Progress, notify: Callable[[str], None]) -> bool:
    """Make the products of the dataset that are missing; return whether any was."""
    job = str(job_of(request.dataset))
    _keep_only(products, job, notify)
    there = products.complete(job)
    todo = {product: make for product, make in _wanted(request, job, progress).items() if product not in there}
    failed: list[PreprocError] = []
    for product in progress(list(todo), "exporting"):
        try:
            with products.making(product) as (publish, is_there):
                todo[product](publish, is_there)
        except (ExtraMissing, BadParameter) as error:
            failed.append(error)
    named = {product.product for product in products.complete(job)} & {PICTURE, QT, ANNALISA}
    report = Product(REPORT, job, ", ".join(sorted(named)))
    if report not in there:
        with products.making(report) as (publish, _):
            write_report(request.dataset, request.out / PICTURE, request.out, [DATASET, *sorted(named)], publish)
    if failed:
        raise failed[0]
    return bool(todo) or report not in there


def _wanted(request: Request, job: str, progress: Progress) -> dict[Product, Make]:
    """Return the products of a request, and functions that make them."""
    dataset, out = request.dataset, request.out
    with h5py.File(dataset) as file:
        target = request.target or channels_of(file)[0]

    def annalisa(publish: Publish, is_there: IsThere) -> None:
        data = request.source.directory(out / _FETCHED, progress)
        export_annalisa(data, dataset, out / ANNALISA, progress, publish, is_there)

    def picture_of(window: int) -> Make:
        return lambda publish, _: draw_window(dataset, window, out / window_picture(window), publish)

    exports: dict[Product, Make] = {
        Product(ANNALISA, job): annalisa,
        Product(QT, job, f"target {target}"): lambda publish, _: write_qt(dataset, out / QT, target, publish),
    }
    return (
        {Product(PICTURE, job): lambda publish, _: draw_contact_sheet(dataset, out / PICTURE, publish)}
        | {product: make for product, make in exports.items() if product.product in request.exports}
        | {Product(window_picture(window), job): picture_of(window) for window in request.windows}
    )

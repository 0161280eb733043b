"""The record of the files in an output folder: the product that each belongs to, and the job that made it.

The record `.products` has a line of JSON for each file that was written, and one for each product that is complete:

| field | content |
|---|---|
| `product` | the name of the product, such as `annalisa` |
| `job` | the key of the job (see `preproc.job.job_key`) |
| `options` | further options that determine the product, such as the target of `QT.pt` |
| `file`, `sha256` | the path of the file in the folder, and its content; missing in the line of a complete product |

The line of a file is written before the file is, so that every file of an interrupted run is recorded. A file is what
its line says only while it has that content: a damaged file is not part of a product, and a file that the user
wrote or changed is never removed.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from gwservice.regular_file import append_regular, open_regular, read_regular
from preproc.errors import OutputFailed, Unwritable
from preproc.publish import Publish, published, withdraw

RECORD = ".products"
#: Bytes of a record.
_MOST_BYTES = 2**30
_BYTES_AT_A_TIME = 2**20


@dataclass(frozen=True)
class Product:
    """A product of a job with its options."""

    product: str
    job: str
    options: str = ""


@dataclass(frozen=True)
class _Content:
    """A file with a content, both "" for all files of a complete product."""

    file: str = ""
    sha256: str = ""


class Products:
    """The products in the output folder of a run, which has to be locked (see `preproc.job.working_in`)."""

    def __init__(self, folder: Path) -> None:
        """Read the record, or raise OutputFailed."""
        self._folder = folder
        self._record = folder / RECORD
        try:
            lines = read_regular(self._record, _MOST_BYTES)
        except FileNotFoundError:
            lines = None
        except OSError as error:
            raise OutputFailed(f"cannot read {self._record}: {error.strerror}") from error
        self._is_recorded = lines is not None
        self._lines = set(_decode(lines or b""))
        self._digests: dict[str, str | None] = {}

    def keep_only(self, job: str) -> list[Path]:
        """Remove the products of other jobs; return their files that stay because they were changed since.

        Raises Unwritable if a file cannot be removed.
        """
        others = {line for line in self._lines if line[0].job != job}
        if not others and self._is_recorded:
            return []
        changed = [file for file in sorted({content.file for _, content in others} - {""}) if self._is_changed(file)]
        own = {content.file for _, content in self._lines - others if self._digest(content.file) == content.sha256}
        for file in {content.file for _, content in others} - {"", *changed} - own:
            self._remove(file)
        self._lines -= others
        with published(self._record) as temporary:
            temporary.write_text("".join(sorted(_encode(*line) for line in self._lines)))
        self._is_recorded = True
        return [self._folder / file for file in changed]

    def complete(self, job: str) -> set[Product]:
        """Return the products of a job with all of their files as they were written."""
        contents: dict[Product, set[_Content]] = {}
        for product, content in self._lines:
            if product.job == job:
                contents.setdefault(product, set()).add(content)
        return {product for product, found in contents.items() if _Content() in found and self._all_there(found)}

    @contextmanager
    def making(self, product: Product) -> Iterator[tuple[Publish, Callable[[Path], bool]]]:
        """Yield functions to write a file of a product, and to find out whether it is there; then it is complete."""
        yield partial(self._publish, product), partial(self._has, product)
        self._append(product, _Content())

    @contextmanager
    def _publish(self, product: Product, path: Path) -> Iterator[Path]:
        file = path.relative_to(self._folder).as_posix()
        self._digests.pop(file, None)
        with published(path) as temporary:
            yield temporary
            self._append(product, _Content(file, _sha256(temporary)))

    def _has(self, product: Product, path: Path) -> bool:
        file = path.relative_to(self._folder).as_posix()
        digest = self._digest(file)
        return digest is not None and (product, _Content(file, digest)) in self._lines

    def _all_there(self, contents: Iterable[_Content]) -> bool:
        digests: dict[str, set[str]] = {}
        for one in contents:
            if one.file:
                digests.setdefault(one.file, set()).add(one.sha256)
        return all(self._digest(file) in expected for file, expected in digests.items())

    def _append(self, product: Product, content: _Content) -> None:
        if (product, content) in self._lines:
            return
        try:
            with append_regular(self._record) as record:
                # An interruption may have left a line without its end.
                record.write(b"\n" + _encode(product, content).encode())
                record.flush()
                os.fsync(record.fileno())
        except OSError as error:
            raise Unwritable(f"cannot write {self._record}: {error.strerror or error}") from error
        self._lines.add((product, content))

    def _is_changed(self, file: str) -> bool:
        """Return whether there is a file with another content than was ever written there."""
        written = {content.sha256 for _, content in self._lines if content.file == file}
        return os.path.lexists(self._folder / file) and self._digest(file) not in written

    def _remove(self, file: str) -> None:
        """Remove a file, and the folders that are empty then."""
        path = self._folder / file
        withdraw(path)
        self._digests.pop(file, None)
        with suppress(OSError):
            for folder in list(path.relative_to(self._folder).parents)[:-1]:
                (self._folder / folder).rmdir()

    def _digest(self, file: str) -> str | None:
        if file not in self._digests:
            self._digests[file] = None
            with suppress(OSError):
                self._digests[file] = _sha256(self._folder / file)
        return self._digests[file]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open_regular(path, follow=True) as file:
        while part := file.read(_BYTES_AT_A_TIME):
            digest.update(part)
    return digest.hexdigest()


def _encode(product: Product, content: _Content) -> str:
    named = asdict(product) | (asdict(content) if content.file else {})
    return f"{json.dumps(named)}\n"


def _decode(record: bytes) -> Iterator[tuple[Product, _Content]]:
    """Yield the lines of a record; those that are damaged are left out."""
    for line in record.splitlines():
        with suppress(ValueError, TypeError, KeyError, RecursionError):
            named = json.loads(line)
            product = Product(*(_text(named[name]) for name in ("product", "job", "options")))
            content = _Content(_text(named.get("file", "")), _text(named.get("sha256", "")))
            path = PurePosixPath(content.file)
            if not path.is_absolute() and ".." not in path.parts:
                yield product, content


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value

"""Files below the folders that server and clients share: found, read and written there, and nowhere else.

A path is resolved first, and then opened part by part without following links. So a link that leads out of the shared
folders is refused, also one that is made in between.
"""

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from hashlib import file_digest, sha256
from pathlib import Path
from typing import BinaryIO, Self

from msgspec import Struct

from gwwire.decoding import InvalidRequest
from gwwire.holdings import HoldingFile, NewFile, PathType, check_link, check_path

_TYPES = {stat.S_IFREG: PathType.FILE, stat.S_IFDIR: PathType.DIRECTORY, stat.S_IFLNK: PathType.LINK}
_FOLDER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 100
_MARK = re.compile(r"\{(?:user|group)\}")
_NOT_SHARED = "it is in no folder that you share with the server (NLDS_ROOTS)"


class NotPossible(Exception):
    """A file cannot be read or written; the message is the reason."""


class Failure(Struct, frozen=True):
    """A file that was not transferred, and why."""

    path: str
    reason: str


class Roots:
    """The shared folders of the setting NLDS_ROOTS, in which `{user}` and `{group}` stand for those of a caller."""

    def __init__(self, templates: Sequence[str]) -> None:
        self._templates = templates

    def of(self, user: str, group: str | None) -> "SharedFiles":
        """Return the files that a caller may read and write."""
        roots = []
        for template in self._templates:
            names = {"{user}": user, "{group}": group or ""}
            used = {mark: name for mark, name in names.items() if mark in template}
            if all(name not in {"", ".", ".."} and "/" not in name for name in used.values()):
                parts = template.split("/")
                first = next((i for i, part in enumerate(parts) if "{" in part), len(parts) - 1)
                filled = [_filled(part, used) for part in parts]
                roots.append(_Root("/".join(filled[: first + 1]), [part for part in filled[first + 1 :] if part]))
        return SharedFiles(roots)


class _Root:
    """A shared folder: `below` are the names between it and a folder that its users cannot replace.

    Those names are never links. Links in `top` are followed: the administrator has made them.
    """

    def __init__(self, top: str, below: Sequence[str]) -> None:
        self._top = top or "/"
        self.below = below

    @cached_property
    def top(self) -> str:
        """The folder that users cannot replace, resolved."""
        return os.path.realpath(self._top)

    @cached_property
    def path(self) -> str:
        """The shared folder."""
        return os.path.join(self.top, *self.below)  # noqa: PTH118 (a text, as from realpath)

    def has(self, real: str) -> bool:
        """Return whether a resolved path is this folder, or below it."""
        return real == self.path or real.startswith(f"{self.path.rstrip('/')}/")


class SharedFiles:
    """The files below some folders; its methods block, and raise NotPossible or OSError."""

    def __init__(self, roots: Sequence[_Root]) -> None:
        self._roots = roots

    def find(self, paths: Iterable[str]) -> Iterator[NewFile | Failure]:
        """Yield what is at paths, and all that is below directories, in a fixed order; a path is yielded once.

        A path that cannot be put is a Failure, and does not affect the others. Links are not followed.
        """
        seen: set[str] = set()
        for path in paths:
            for each in self._find(path):
                if each.path not in seen:
                    seen.add(each.path)
                    yield each

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading."""
        with self._located(path) as (name, folder):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            file = os.fdopen(os.open(name, flags, dir_fd=folder), "rb")
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return file
        file.close()
        raise NotPossible("not a file")

    def restore(self, target: str | None, file: HoldingFile, job: str) -> "Restoring | None":
        """Begin to write a file at its path below `target`; return None if nothing is left to do.

        A file that is there with other bytes is not replaced. A directory or a link is restored at once.
        """
        check_path(file.path)
        path = f"{(target or '').rstrip('/')}{file.path}"
        if not path.startswith("/") or "\0" in path:
            raise NotPossible("the target is not an absolute path")
        if file.type is PathType.DIRECTORY:
            with self._folder(path, create=True):
                return None
        parent, name = os.path.split(path)
        with self._folder(parent, create=True) as folder:
            if file.type is PathType.LINK:
                _restore_link(file.link or "", name, folder)
                return None
            if _is_there(file, name, folder):
                return None
            return Restoring(file, name, os.dup(folder), job)

    def _find(self, path: str) -> Iterator[NewFile | Failure]:
        try:
            with self._located(check_path(path)) as (name, folder):
                yield from _below(path, name, folder)
        except UnicodeEncodeError:
            yield Failure(ascii(path)[1:-1], "the name is not UTF-8")
        except InvalidRequest as error:
            yield Failure(path, error.detail.rpartition(": ")[2])
        except (NotPossible, OSError) as error:
            yield Failure(path, reason_of(error))

    @contextmanager
    def _located(self, path: str) -> Iterator[tuple[str, int | None]]:
        """Yield what `os` calls path and `dir_fd` of a path; a shared folder itself has no other above it."""
        real = os.path.realpath(path)
        root = next((each for each in self._roots if each.path == real), None)
        if root is None or Path(path).is_symlink():
            parent, name = os.path.split(path)
            with self._folder(parent) as folder:
                yield name, folder
        elif root.below:
            with _opened(root.top, root.below[:-1]) as folder:
                yield root.below[-1], folder
        else:
            yield real, None

    @contextmanager
    def _folder(self, path: str, *, create: bool = False) -> Iterator[int]:
        """Yield a folder, opened without following links; `create` makes it and those above it."""
        real = os.path.realpath(path)
        root = next((each for each in self._roots if each.has(real)), None)
        if root is None:
            raise NotPossible(_NOT_SHARED)
        made = [part for part in real[len(root.path) :].split("/") if part]
        with _opened(root.top, root.below, made, create=create) as folder:
            yield folder


class Restoring:
    """A file that is being written: under another name until all its bytes are there."""

    def __init__(self, file: HoldingFile, name: str, folder: int, job: str) -> None:
        self._file, self._name, self._folder = file, name, folder
        self._partial = f".{sha256(name.encode()).hexdigest()[:8]}.{job}.part"
        self._digest = sha256()
        self.size = 0
        with suppress(FileNotFoundError):
            os.unlink(self._partial, dir_fd=folder)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._content = os.fdopen(os.open(self._partial, flags, 0o600, dir_fd=folder), "wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._content.close()
        with suppress(FileNotFoundError):
            os.unlink(self._partial, dir_fd=self._folder)
        os.close(self._folder)

    def write(self, piece: bytes) -> None:
        """Append bytes."""
        self._content.write(piece)
        self._digest.update(piece)
        self.size += len(piece)

    def finish(self) -> None:
        """Set name, mode and mtime of the file; user and group are not restored."""
        if self._digest.hexdigest() != self._file.sha256:
            raise NotPossible("it arrived with other bytes than its SHA-256 says")
        self._content.flush()
        os.fchmod(self._content.fileno(), self._file.mode & 0o777)
        os.utime(self._content.fileno(), (self._file.mtime, self._file.mtime))
        os.fsync(self._content.fileno())
        # Unlike a rename, a link does not replace what was made there meanwhile, as by another get of the same file.
        try:
            os.link(self._partial, self._name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
        except FileExistsError:
            _is_there(self._file, self._name, self._folder)


@contextmanager
def _opened(top: str, below: Sequence[str], further: Sequence[str] = (), *, create: bool = False) -> Iterator[int]:
    """Yield the folder at names below another one, opened without following links; `create` makes the further ones."""
    folder = os.open(top, os.O_PATH | _FOLDER)
    try:
        for i, part in enumerate((*below, *further)):
            if create and i >= len(below):
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
            inner = os.open(part, os.O_PATH | _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = inner
        yield folder
    finally:
        os.close(folder)


def _filled(part: str, names: Mapping[str, str]) -> str:
    """Return a part of a template with the names of a caller, each of which is taken as it is."""
    return _MARK.sub(lambda mark: names[mark[0]], part)


def reason_of(error: NotPossible | OSError) -> str:
    """Return why a file cannot be read or written."""
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return str(error)


def _below(path: str, name: str, folder: int | None, depth: int = 0) -> Iterator[NewFile | Failure]:
    """Yield what is at a path, and all that is below it; a directory that cannot be listed is a Failure."""
    try:
        new = _described(path, name, folder)
        if new.type is not PathType.DIRECTORY:
            yield new
        elif depth == _DEEPEST:
            yield Failure(path, f"it is more than {_DEEPEST} directories deep")
        else:
            inner = os.open(name, os.O_RDONLY | _FOLDER, dir_fd=folder)
            try:
                names = sorted(os.listdir(inner))  # noqa: PTH208 (of an open folder)
                yield new
                for each in names:
                    yield from _below(f"{path}/{each}", each, inner, depth + 1)
            finally:
                os.close(inner)
    except UnicodeEncodeError:
        yield Failure(ascii(path)[1:-1], "the name, or the target of the link, is not UTF-8")
    except InvalidRequest as error:
        yield Failure(path, error.detail.rpartition(": ")[2])
    except (NotPossible, OSError) as error:
        yield Failure(path, reason_of(error))


def _described(path: str, name: str, folder: int | None) -> NewFile:
    path.encode()
    check_path(path)
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    kind, mode, mtime = _TYPES.get(stat.S_IFMT(found.st_mode)), stat.S_IMODE(found.st_mode), found.st_mtime
    if kind is None:
        raise NotPossible("not a file, directory or link")
    if kind is PathType.LINK:
        link = check_link(os.readlink(name, dir_fd=folder))
        link.encode()
        return NewFile(path, kind, mode=mode, mtime=mtime, link=link)
    if kind is PathType.DIRECTORY:
        return NewFile(path, kind, mode=mode, mtime=mtime)
    if not os.access(name, os.R_OK, dir_fd=folder):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return NewFile(path, kind, found.st_size, mode, mtime)


def _restore_link(link: str, name: str, folder: int) -> None:
    if "\0" in link:  # of a holding that an earlier version stored
        raise NotPossible("the target of the link has a NUL")
    try:
        os.symlink(link, name, dir_fd=folder)
    except FileExistsError:
        with suppress(OSError):
            if os.readlink(name, dir_fd=folder) == link:
                return
        raise NotPossible("something else is there, and is not replaced") from None


def _is_there(file: HoldingFile, name: str, folder: int) -> bool:
    """Return whether a folder has a file with the same bytes; raise NotPossible if something else is there."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if stat.S_ISREG(found.st_mode) and found.st_size == file.size:
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with os.fdopen(opened, "rb") as content:
            if file_digest(content, "sha256").hexdigest() == file.sha256:
                return True
    raise NotPossible("a file with other bytes is there, and is not replaced")

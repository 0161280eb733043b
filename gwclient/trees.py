"""Files, directories and links of this machine that are put into a holding, and their restoration below a folder."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, assert_never

from msgspec import Struct

from gwclient.errors import FolderError
from gwwire.decoding import InvalidRequest, convert
from gwwire.holdings import HoldingFile, NewFile, PathType, check_link, check_path

_TYPES = {stat.S_IFREG: PathType.FILE, stat.S_IFDIR: PathType.DIRECTORY, stat.S_IFLNK: PathType.LINK}


class FileFailure(Struct, frozen=True):
    """A file that was not put or fetched, and why."""

    path: str
    reason: str


class Found(Struct, frozen=True):
    """The files below the paths to put."""

    files: list[NewFile]
    failures: list[FileFailure]


def find_files(paths: Iterable[str]) -> Found:
    """Return the files at paths, with their absolute paths, and all that is below directories; links are not followed.

    A path that cannot be put is a failure, and does not affect the others.
    """
    found = Found([], [])
    for path in paths:
        for each in _below(absolute(path)):
            if isinstance(each, NewFile):
                found.files.append(each)
            else:
                found.failures.append(each)
    return found


def absolute(path: str) -> str:
    """Return the absolute path without `.` and `..`; links in it are not followed."""
    return os.path.abspath(path)  # noqa: PTH100 (`resolve` follows links)


def read_list(text: str) -> list[str]:
    """Return the paths in a list, one in each line."""
    return [line for line in text.split("\n") if line.strip()]


def _below(path: str) -> Iterator[NewFile | FileFailure]:
    waiting = [path]  # a tree may be deeper than functions can call each other
    while waiting:
        path = waiting.pop()
        try:
            new = _described(path)
            yield new
            if new.type is PathType.DIRECTORY:
                names = sorted(os.listdir(path), reverse=True)  # noqa: PTH208 (names, not paths)
                waiting += [f"{path.rstrip('/')}/{name}" for name in names]
        except (UnicodeEncodeError, InvalidRequest, OSError) as error:
            yield failure_of(path, error)


def failure_of(path: str, error: UnicodeEncodeError | InvalidRequest | OSError) -> FileFailure:
    """Return the error of a path as its failure."""
    match error:
        case UnicodeEncodeError():
            return FileFailure(ascii(path)[1:-1], "the name, or the target of the link, is not UTF-8")
        case InvalidRequest():
            return FileFailure(path, error.detail.removeprefix("path: ").removeprefix(f"{path[:200]!r}: "))
        case _:
            return FileFailure(path, error.strerror or str(error))


def _described(path: str) -> NewFile:
    """Return what is at a path; raise OSError, InvalidRequest or UnicodeEncodeError if it cannot be put."""
    path.encode()
    found = Path(path).lstat()
    check_path(path)
    new: dict[str, Any] = {"path": path, "mode": stat.S_IMODE(found.st_mode), "mtime": found.st_mtime}
    match kind := _TYPES.get(stat.S_IFMT(found.st_mode)):
        case PathType.FILE:
            if not os.access(path, os.R_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            new["size"] = found.st_size
        case PathType.DIRECTORY:
            pass
        case PathType.LINK:
            new["link"] = check_link(str(Path(path).readlink()))
            new["link"].encode()
        case None:
            raise OSError("not a file, directory or link")
        case _:
            assert_never(kind)
    return convert(NewFile, {**new, "type": kind})  # the gateway refuses all files if one is out of bounds


def place(target: Path, path: str) -> Path:
    """Return where a file of a holding is restored: its whole path, below the folder `target`.

    Raise FolderError if a link that is there already leads to another place: what a holding has is not trusted.
    """
    wanted = target / check_path(path)[1:]
    if not wanted.parent.resolve().is_relative_to(target.resolve()):
        raise FolderError(f"a link in {target} leads to another place")
    return wanted


def restore_link(target: Path, file: HoldingFile) -> None:
    """Restore a link; one that is the same already is left. Raise FolderError for a target that no link can have."""
    path, link = place(target, file.path), file.link or ""
    if "\0" in link:  # of a holding that an earlier version stored
        raise FolderError("the target of the link has a NUL")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() and str(path.readlink()) == link:
        return
    path.symlink_to(link)


def restore_directory(target: Path, file: HoldingFile) -> None:
    """Restore a directory; raise FolderError if a link is there, whose target would get its mode."""
    path = place(target, file.path)
    if path.is_symlink():
        raise FolderError(f"{path} is a link already")
    path.mkdir(parents=True, exist_ok=True)


def restore_metadata(path: Path, file: HoldingFile) -> None:
    """Set mode and mtime; user, group, and the bits that give rights of theirs are not restored."""
    path.chmod(file.mode & 0o777)
    os.utime(path, (file.mtime, file.mtime))

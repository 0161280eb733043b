"""A copy of a buffer's files on which repairs can be tried without changing the files themselves."""

import os
import shutil
from pathlib import Path

from databuffer.settings import BufferSettings
from databuffer.storage.files import volume_errors, why_not_ours
from gwwire.manifest import MANIFEST


def shadow(settings: BufferSettings, home: Path) -> BufferSettings:
    """Create such a copy in the folder `home`, and return the settings for it.

    State files, marks, manifests and catalog are copied. The volume's folders that repairs change are new ones with a
    link to each segment: a repair moves, replaces and removes files, and never writes to one. The others are links;
    quarantine is left out.
    """
    root, adm, log = (home / name for name in ("volume", "adm", "log"))
    filled = {settings.DATAROOT.name, "next", ".incoming"}
    catalog = [f"catalog.sqlite{suffix}" for suffix in ("", "-wal", "-shm")]
    with volume_errors():
        for folder in (root, adm, log):
            folder.mkdir()
        for name in (settings.ADMFNM, settings.DSST):
            _copy(settings.ADMROOT / name, adm / name)
        for name in catalog:  # it may be a link
            _copy((settings.ADMROOT / name).resolve(), adm / name)
        for name in (settings.LOGSTREAM, f"next.{settings.LOGSTREAM}"):
            _copy(settings.LOGROOT / name, log / name)
        for path in settings.DTVOLROOT.iterdir():
            if path.name in filled and path.is_dir():
                (root / path.name).mkdir()
                for file in path.iterdir():
                    _put(file, root / path.name / file.name)
            elif path.is_dir() and path.name != "quarantine":
                (root / path.name).symlink_to(path.absolute())
            elif path.name not in {".lock", "quarantine", "next"}:
                _copy(path, root / path.name)
    changed = {"DTVOLROOT": root, "DATAROOT": root / settings.DATAROOT.name, "ADMROOT": adm, "LOGROOT": log}
    return settings.model_copy(update=changed)


def _put(file: Path, target: Path) -> None:
    """Copy the manifest of a batch, and link another file."""
    if file.name == MANIFEST or why_not_ours(file):
        _copy(file, target)
    else:
        target.symlink_to(file.absolute())


def _copy(source: Path, target: Path) -> None:
    if not os.path.lexists(source):
        return
    if why_not_ours(source):
        target.mkdir()  # anything else would be moved aside
    else:
        shutil.copy(source, target)

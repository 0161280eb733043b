"""A copy of a buffer's files on which repairs can be tried without changing the files themselves."""

import os
import shutil
from pathlib import Path

from databuffer.settings import BufferSettings
from databuffer.storage.files import volume_errors


def shadow(settings: BufferSettings, home: Path) -> BufferSettings:
    """Create such a copy in the folder `home`, and return the settings for it.

    State files and catalog are copied. The volume's folders that repairs change are new ones with a link to each file:
    a repair moves, replaces and removes files, and never writes to one. The others are links; quarantine is left out.
    """
    root, adm, log = (home / name for name in ("volume", "adm", "log"))
    filled = {settings.DATAROOT.name, "next", ".incoming"}
    catalog = [f"catalog.sqlite{suffix}" for suffix in ("", "-wal", "-shm")]
    with volume_errors():
        for folder in (root, adm, log):
            folder.mkdir()
        for name in (settings.ADMFNM, settings.DSST, *catalog):
            _copy(settings.ADMROOT / name, adm / name)
        for name in (settings.LOGSTREAM, f"next.{settings.LOGSTREAM}"):
            _copy(settings.LOGROOT / name, log / name)
        for path in settings.DTVOLROOT.iterdir():
            if path.name in filled and path.is_dir():
                (root / path.name).mkdir()
                for file in path.iterdir():
                    (root / path.name / file.name).symlink_to(file.absolute())
            elif path.name not in {".lock", "quarantine"}:
                (root / path.name).symlink_to(path.absolute())
    changed = {"DTVOLROOT": root, "DATAROOT": root / settings.DATAROOT.name, "ADMROOT": adm, "LOGROOT": log}
    return settings.model_copy(update=changed)


def _copy(source: Path, target: Path) -> None:
    if source.is_file():
        shutil.copy(source, target)
    elif os.path.lexists(source):
        target.mkdir()  # anything else would be moved aside

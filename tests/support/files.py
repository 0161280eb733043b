"""Files of running services, which may delete them at any moment."""

import os
from contextlib import suppress
from pathlib import Path


def contents_of(folder: Path) -> dict[Path, bytes]:
    """Return the content of each file below a folder, without those that are deleted meanwhile."""
    found: dict[Path, bytes] = {}
    for place, _, names in os.walk(folder):
        for path in (Path(place, name) for name in names):
            with suppress(FileNotFoundError):
                if path.is_file():
                    found[path] = path.read_bytes()
    return found

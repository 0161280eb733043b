"""Settings of a buffer whose files are all in one folder."""

from pathlib import Path
from typing import Any

from databuffer.settings import BufferSettings


def settings_in(home: Path, **values: Any) -> BufferSettings:
    """Return the settings of a buffer in a folder, with other settings by their names."""
    volume = home / "datavar"
    return BufferSettings(
        DTVOLROOT=volume, DATAROOT=volume / "data", ADMROOT=home / "adm", LOGROOT=home / "log", **values
    )

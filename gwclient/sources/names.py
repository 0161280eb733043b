"""Names of strain files after LIGO-T050017: `OBS-TYPE-GPSSTART-DURATION.ext`, and the folders that hold them."""

import re
from pathlib import Path
from typing import NamedTuple, Self

from gwclient.errors import InvalidSource

#: What can be read as strain.
HDF5_SUFFIXES = frozenset({".hdf5", ".h5"})
FRAME_SUFFIXES = frozenset({".gwf"})

_NAME = re.compile(r"(?P<obs>[A-Z]+)-(?P<kind>[\w+#]+)-(?P<start>\d+)-(?P<duration>\d+)(?P<suffix>\.\w+)")


class FileName(NamedTuple):
    """The parts of a file's name: the observatories, the kind of data, and the span in GPS seconds."""

    observatories: str
    kind: str
    start: int
    duration: int
    suffix: str

    @property
    def stop(self) -> int:
        """GPS seconds of the end, which is not included."""
        return self.start + self.duration

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Parse a name; return None if it is another kind of name."""
        if match := _NAME.fullmatch(name):
            return cls(match["obs"], match["kind"], int(match["start"]), int(match["duration"]), match["suffix"])
        return None


def strain_files(folder: Path, start: float, stop: float) -> tuple[list[Path], list[str]]:
    """Find the strain files of a folder and all folders in it, by their names alone.

    Args:
        folder: where to look.
        start: GPS seconds; files that end before it are not wanted.
        stop: GPS seconds; files that begin at it or later are not wanted.

    Returns:
        The files that overlap [start, stop), ordered by their start; and the names of strain files without a span.

    Raises:
        InvalidSource: there are none.

    """
    try:
        paths = sorted(path for path in folder.rglob("*") if path.suffix in HDF5_SUFFIXES | FRAME_SUFFIXES)
    except OSError as error:
        raise InvalidSource(f"{folder} cannot be read: {error.strerror}") from error
    named = [(name, path) for path in paths if (name := FileName.parse(path.name))]
    unnamed = [path.name for path in paths if not FileName.parse(path.name)]
    wanted = [(name.start, path) for name, path in named if name.start < stop and start < name.stop]
    if not wanted:
        raise InvalidSource(
            f"{folder} has no strain file named as OBS-TYPE-GPSSTART-DURATION.hdf5 or .gwf in GPS [{start!r}, {stop!r})"
        )
    return [path for _, path in sorted(wanted)], unnamed

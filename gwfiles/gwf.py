"""Strain as frame files (GWF), for the programs of the detectors: one frame with one channel."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gwfiles.frames import FrameWriter, first
from gwfiles.layout import check_within
from gwfiles.stretches import Stretch
from gwwire.gps import utc_offset_of_gps

EXTENSION = "gwf"

#: GPS seconds of all times (an INT_4U), and s between two samples: the beginning is rounded to nanoseconds.
_TIMES, _SPACINGS = (0.0, 2.0**32), (1e-6, 1e6)
_SECOND = 10**9  # ns
#: TAI - GPS, s: a frame has the leap seconds between TAI and UTC.
_TAI_OF_GPS = 19
_TIME_SERIES = 1


def check_times(stretch: Stretch) -> None:
    """Raise NotDescribable if a frame cannot describe when the stretch is."""
    check_within(stretch, _TIMES, _SPACINGS)


@contextmanager
def writing(path: Path, stretch: Stretch) -> Iterator[Callable[[NDArray[np.float64]], None]]:
    """Yield a function that appends samples, float64 of shape [samples], to a new file.

    All samples of the stretch have to be appended, else ValueError is raised.
    """
    # A text in a frame ends with the character NUL; the symbol for it stands in its place.
    channel = stretch.channel.replace("\0", "\u2400")
    seconds, nanoseconds = divmod(stretch.start * _SECOND + round((stretch.t0 - stretch.start) * _SECOND), _SECOND)
    begin = {"GTimeS": seconds, "GTimeN": nanoseconds}
    leaps, length = _TAI_OF_GPS + utc_offset_of_gps(seconds), float(stretch.count * stretch.period)
    frame = {"name": "GlitchFlow", **begin, "ULeapS": leaps, "dt": length, "procData": first("FrProcData")}
    series = {"name": channel, "type": _TIME_SERIES, "tRange": length, "data": first("FrVect")}
    axis = {"nDim": 1, "nx": [stretch.count], "dx": [stretch.dt], "startX": [0.0], "unitX": ["s"]}
    with path.open("wb") as file:
        out = FrameWriter(file)
        positions = {
            "positionH": [out.structure("FrameH", frame)],
            "positionProc": [out.structure("FrProcData", series)],
        }
        with out.vector({"name": channel, **axis, "unitY": "strain"}, stretch.count) as append:
            yield append
        out.end_frame(begin)
        times = {name: [value] for name, value in {**begin, "dt": length}.items()}
        out.end({"ULeapS": leaps, "nFrame": 1, **times, "nProc": 1, "nameProc": [channel], **positions})

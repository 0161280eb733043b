"""The models of bundles: the files of a query's result, as one archive; part of the public API."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

#: The first file of an archive.
INFO = "Info.json"
#: The end of the name of a channel's detector that GWOSC's data have: `L1:GWOSC-4KHZ_R1_STRAIN`.
_GWOSC = ("GWOSC", "LOSC")
_CITATION = (
    "The channels named GWOSC are data of the Gravitational Wave Open Science Center (https://gwosc.org), a service of"
    " the LIGO Scientific Collaboration, the Virgo Collaboration, and KAGRA. They are licensed CC BY 4.0; acknowledge"
    " them as https://gwosc.org/acknowledgement/ asks."
)


class BundleFormat(StrEnum):
    """The files of a bundle: segments as they were stored, HDF5 in GWOSC's layout, or only the list of segments."""

    TAR = "tar"
    HDF5 = "hdf5"
    MANIFEST = "manifest"


class BundleState(StrEnum):
    """Whether the archive of a bundle can be downloaded."""

    BUILDING = "BUILDING"
    READY = "READY"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


class ChannelGaps(Struct, frozen=True):
    """The spans of one channel that are not in a bundle."""

    channel: Annotated[str | None, Meta(description="null for segments that name no channel")]
    dt: Annotated[float, Meta(description="sample spacing, s")]
    spans: Annotated[list[tuple[float, float]], Meta(description="`[start, stop]`, GPS s")]


class NotIncluded(Struct, frozen=True):
    """A span of a channel that the files of a bundle do not hold, and why."""

    channel: str
    start: float
    stop: float
    reason: str


def citation(channels: list[str | None]) -> str | None:
    """Return how to cite the data of some channels, or None if none of them is GWOSC's."""
    names = [channel.partition(":")[2] for channel in channels if channel]
    return _CITATION if any(name.startswith(_GWOSC) for name in names) else None

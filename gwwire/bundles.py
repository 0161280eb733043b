"""The models of bundles, the files of a query's result as one archive; part of the public API.

Times are Unix seconds, unless they are GPS seconds.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from gwwire.public import ChannelCoverage, ChannelGaps, ManifestEntry
from gwwire.query import Query

#: The first file of an archive.
INFO = "Info.json"
#: The most segments of a bundle.
MOST_SEGMENTS = 100_000
#: The most names in an order.
MOST_NAMES = 20_000
#: The name of a channel of GWOSC begins with one of these after the detector: `L1:GWOSC-4KHZ_R1_STRAIN`.
_GWOSC = ("GWOSC", "LOSC")
_CITATION = (
    "The channels named GWOSC are data of the Gravitational Wave Open Science Center (https://gwosc.org), a service of"
    " the LIGO Scientific Collaboration, the Virgo Collaboration, and KAGRA, under CC BY 4.0. Acknowledge them as"
    " https://gwosc.org/acknowledgement/ asks."
)

SegmentName = Annotated[str, Meta(min_length=1, max_length=255)]


class BundleFormat(StrEnum):
    """The content of an archive."""

    TAR = "tar"
    HDF5 = "hdf5"
    GWF = "gwf"
    MANIFEST = "manifest"

    @property
    def is_built(self) -> bool:
        """Return whether the archive has files that the datastore builds from the segments."""
        return self in {BundleFormat.HDF5, BundleFormat.GWF}


class BundleState(StrEnum):
    """The state of the archive of a bundle; READY can be downloaded."""

    BUILDING = "BUILDING"
    READY = "READY"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"


class BundleOrder(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A request for a bundle of the segments that a query selects, or of those with these names."""

    format: Annotated[
        BundleFormat,
        Meta(
            description="`tar`: the segments as they were stored. `hdf5`: a tar of HDF5 files in GWOSC's layout, one"
            " for each stretch without a gap. `gwf`: the same as frame files. `manifest`: the list of the segments, as"
            " JSON."
        ),
    ] = BundleFormat.TAR
    query: Query | None = None
    names: Annotated[tuple[SegmentName, ...], Meta(max_length=MOST_NAMES, description="instead of a query")] | None = (
        None
    )


class NotIncluded(Struct, frozen=True):
    """A span that the files of a bundle do not hold, or not completely, and why."""

    channel: str
    start: float
    stop: float
    reason: str


class Bundle(Struct, frozen=True):
    """A bundle."""

    id: str
    format: BundleFormat
    state: BundleState
    percent: Annotated[int, Meta(description="how much of the archive is built")]
    as_of: Annotated[int, Meta(description="the seq up to which it has everything that the query selects")]
    n: Annotated[int, Meta(description="segments")]
    bytes: Annotated[int, Meta(description="bytes of their files")]
    digest: Annotated[str, Meta(description="SHA-256 of the `sha256sum` listing of the segments")]
    size: Annotated[int | None, Meta(description="bytes of the archive, once it is known")]
    made: float
    expires: Annotated[float, Meta(description="when the archive may be deleted; each use postpones it")]
    covered: list[ChannelCoverage]
    gaps: list[ChannelGaps]
    query: Annotated[Query | None, Meta(description="null for a bundle of named segments")] = None
    reason: Annotated[str | None, Meta(description="of the last failure")] = None
    note: Annotated[str | None, Meta(description="that the archive has no data, because no segment matches")] = None
    left_out: Annotated[list[NotIncluded], Meta(description="of HDF5 and GWF, once READY: what no file holds")] = []


class BundleInfo(Struct, frozen=True):
    """Info.json, the first file of an archive: what it contains."""

    bundle: str
    format: BundleFormat
    query: Annotated[Query | None, Meta(description="null for a bundle of named segments")]
    as_of: Annotated[int, Meta(description="the seq at which the archive was made")]
    made: Annotated[str, Meta(description="UTC (RFC 3339)")]
    n: int
    bytes: int
    digest: str
    covered: list[ChannelCoverage]
    gaps: list[ChannelGaps]
    software: Annotated[str, Meta(description="name and version of the datastore")]
    citation: Annotated[str | None, Meta(description="how to acknowledge data of GWOSC")] = None
    left_out: Annotated[list[NotIncluded], Meta(description="of HDF5 and GWF: what no file holds")] = []


class BundleManifest(Struct, frozen=True):
    """The archive of a bundle of format `manifest`: the list of its segments."""

    info: BundleInfo
    segments: list[ManifestEntry]


def citation(channels: list[str | None]) -> str | None:
    """Return how to cite the data of some channels, or None if none of them is GWOSC's."""
    names = [channel.partition(":")[2] for channel in channels if channel]
    return _CITATION if any(name.startswith(_GWOSC) for name in names) else None

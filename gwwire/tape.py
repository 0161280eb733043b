"""The bodies and answers of the WLCG Tape REST API, version 1; part of the public API."""

from enum import StrEnum
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from gwwire.names import PRINTABLE
from gwwire.tiering import BatchLocality

#: Paths that one request may have.
MOST_PATHS = 1000
#: The ids of stage requests.
STAGE_ID = r"^stage-[0-9a-f]{32}$"

_Path = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=500,
        pattern=PRINTABLE,
        description="`/segments/{name}` or `/batches/{batch}`; repeated slashes count as one",
    ),
]
_Error = Annotated[str | UnsetType, Meta(description="why this path cannot be served; the others are")]


class StageState(StrEnum):
    """The state of the staging of a path."""

    SUBMITTED = "SUBMITTED"
    STARTED = "STARTED"
    COMPLETED = "COMPLETED"
    CANCELED = "CANCELED"
    FAILED = "FAILED"


class StageFile(Struct, frozen=True):
    """A file to stage; other fields of the protocol, such as `targetedMetadata`, are ignored."""

    path: _Path


class StageOrder(Struct, frozen=True):
    """The files that have to be readable."""

    files: Annotated[list[StageFile], Meta(min_length=1, max_length=MOST_PATHS)]


class StageAccepted(Struct, frozen=True, rename="camel"):
    """The id of a new stage request."""

    request_id: str


class StagedFile(Struct, frozen=True, rename="camel", omit_defaults=True):
    """The progress of one file of a stage request."""

    path: str
    state: StageState
    on_disk: Annotated[bool | UnsetType, Meta(description="true: it can be read now")] = UNSET
    error: _Error = UNSET


class StageRequest(Struct, frozen=True):
    """A stage request, with its files that are not released."""

    id: str
    files: list[StagedFile]


class PathList(Struct, frozen=True):
    """Some paths."""

    paths: Annotated[list[_Path], Meta(min_length=1, max_length=MOST_PATHS)]


class ArchiveInfo(Struct, frozen=True, omit_defaults=True):
    """The locality of the bytes of one path, or the reason why it is unknown."""

    path: str
    locality: BatchLocality | UnsetType = UNSET
    error: _Error = UNSET


class TapeEndpoint(Struct, frozen=True):
    """A version of the API, and where it is."""

    uri: str
    version: str
    metadata: dict[str, str]


class TapeDiscovery(Struct, frozen=True):
    """The location of the Tape REST API of a site."""

    sitename: str
    description: str
    endpoints: list[TapeEndpoint]

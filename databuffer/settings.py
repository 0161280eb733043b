"""The buffer's settings: the environment variables of the original system, with its container's tree as default."""

import errno
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from gwservice.settings import Address, ListenAddress, ServiceSettings, Size, SizeLimit
from gwwire.manifest import MANIFEST

#: Bytes of a file's name. The file systems' limit is 255; names of temporary and rejected files are longer than it.
_LONGEST_NAME = 200
#: Files of the catalog in ADMROOT.
_CATALOG = ("catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm")
#: Folders of DTVOLROOT besides the current batch; archives are named after their time.
_RESERVED = re.compile(r"\..*|next|quarantine|lost\+found|\d{4}-\d\d-\d\d \d\d \d\d.*")


def file_name(text: str) -> str:
    """Return a name that can be a file's, or raise ValueError; the buffer's own temporary files begin with a dot."""
    if not text or "/" in text or text.startswith("."):
        raise ValueError("expected a file name without '/' that does not begin with '.'")
    if not text.isprintable() or len(text.encode()) > _LONGEST_NAME:
        raise ValueError(f"expected a file name of at most {_LONGEST_NAME} bytes, without control characters")
    return text


FileName = Annotated[str, AfterValidator(file_name)]


def name_prefix(text: str) -> str:
    """Return the prefix of file names; a path, as the original's container sets, means the default `gwb`."""
    return "gwb" if "/" in text else text


class OnFrozen(StrEnum):
    """The handling of a segment that arrives while the batch is frozen."""

    REJECT = "reject"
    ROTATE = "rotate"


class BufferSettings(ServiceSettings):
    """The settings of the buffer."""

    ADMROOT: Path = Field(Path("/appdata/adm"), description="folder of the metadata files")
    ADMFNM: FileName = Field("StatDesc.json", description="file of the batch's counts, in ADMROOT")
    DSST: FileName = Field("Dsstat.json", description="file of the datastore's state, in ADMROOT")
    DATAROOT: Path = Field(Path("/datavar/data"), description="folder of the current batch, on the volume")
    DATANM: Annotated[FileName, BeforeValidator(name_prefix)] = Field(
        "gwb", description="prefix of the segments' file names; a path means the default"
    )
    LOGROOT: Path = Field(Path("/appdata/log"), description="folder of the log of stored segments")
    LOGSTREAM: FileName = Field("LogStream.json", description="file of the log of stored segments, in LOGROOT")
    SERVURL: ListenAddress = Field(Address("0.0.0.0", 8080), description="where the buffer listens")  # noqa: S104 (a container listens on every interface)
    DTVOLROOT: Path = Field(Path("/datavar"), description="mount point of the data volume")
    WCHSZ: int = Field(256, ge=1, description="maximum number of segments that wait to be stored")
    ON_FROZEN: OnFrozen = Field(
        OnFrozen.REJECT,
        description="segments that arrive while the batch is frozen: `reject` them, or `rotate` into the next batch",
    )
    MAX_BODY: SizeLimit = Field(SizeLimit(64_000_000), description="maximum size of a request body")
    MAX_SAMPLES: int = Field(4_000_000, ge=1, description="maximum number of samples of a segment")
    MAX_META: SizeLimit = Field(
        SizeLimit(64_000), description="maximum size of the `meta` of a segment, as compact JSON"
    )
    MAX_DEPTH: int = Field(
        16, ge=2, description="maximum nesting of a segment's JSON; the segment is level 1, `meta` level 2"
    )
    GROUP_QUOTA: Size = Field(Size(0), description="bytes that a group may store per UTC day; 0: unlimited")
    BUNDLE_CACHE: Size = Field(
        Size(10_000_000_000),
        description="bytes that the files of bundles may take on the volume; the least used go first",
    )
    CALLER_SECRET_FILE: Path | None = Field(
        None, description="file with the secret that dslogic must present; without it, every caller is accepted"
    )

    @field_validator("ADMROOT", "DATAROOT", "LOGROOT", "DTVOLROOT")
    @classmethod
    def _can_be_followed(cls, folder: Path) -> Path:
        try:
            folder.stat()
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ValueError("expected a folder, not a loop of symbolic links") from None
        return folder

    @model_validator(mode="after")
    def _data_lie_on_the_volume(self) -> Self:
        if self.DATAROOT.absolute().parent != self.DTVOLROOT.absolute():
            message = f"DATAROOT {self.DATAROOT} is not a folder directly in DTVOLROOT {self.DTVOLROOT}"
            raise ValueError(message)
        if _RESERVED.fullmatch(self.DATAROOT.name):
            raise ValueError(f"DATAROOT {self.DATAROOT}: the buffer needs this name in DTVOLROOT for other files")
        return self

    @model_validator(mode="after")
    def _state_is_outside_the_batches(self) -> Self:
        volume = self.DTVOLROOT.resolve()
        for setting, folder in (("ADMROOT", self.ADMROOT), ("LOGROOT", self.LOGROOT)):
            inside = folder.resolve()
            top = inside.relative_to(volume).parts[:1] if inside.is_relative_to(volume) else ()
            if any(name == self.DATAROOT.name or _RESERVED.fullmatch(name) for name in top):
                used = self.DTVOLROOT / top[0]
                raise ValueError(f"{setting}={str(folder)!r}: expected a folder outside {used}, which the buffer uses")
        return self

    @model_validator(mode="after")
    def _log_is_no_segment(self) -> Self:
        # In an archive, the log is among the segments; what looks like one is compared with the manifest.
        if re.fullmatch(rf"({re.escape(self.DATANM)}|\D+)\d+\.json", self.LOGSTREAM):
            like = f"{self.DATANM}123.json"
            raise ValueError(f"LOGSTREAM={self.LOGSTREAM!r}: expected a name unlike a segment's, such as {like}")
        return self

    @model_validator(mode="after")
    def _files_have_different_paths(self) -> Self:
        adm, log = self.ADMROOT.resolve(), self.LOGROOT.resolve()
        used = {adm / name: "the catalog in ADMROOT" for name in _CATALOG}
        if self.DATAROOT.resolve() in used:
            raise ValueError(f"DATAROOT and the catalog in ADMROOT are the same file, {self.DATAROOT}")
        used[self.DATAROOT / MANIFEST] = "the manifest in DATAROOT"
        volume = self.DTVOLROOT.resolve()
        for setting, path in (
            ("ADMFNM", adm / self.ADMFNM),
            ("DSST", adm / self.DSST),
            ("LOGSTREAM", log / self.LOGSTREAM),
            ("LOGSTREAM (of the next batch)", log / f"next.{self.LOGSTREAM}"),
            ("LOGSTREAM (in the archive)", self.DATAROOT / self.LOGSTREAM),
        ):
            if path.parent == volume and (path.name == self.DATAROOT.name or _RESERVED.fullmatch(path.name)):
                root = "ADMROOT" if path.parent == adm else "LOGROOT"
                detail = (
                    f"{setting}={path.name!r}: the buffer needs this name for a folder, because {root} is DTVOLROOT"
                )
                raise ValueError(detail)
            if path in used:
                raise ValueError(f"{setting} and {used[path]} are the same file, {path}")
            used[path] = setting
        return self

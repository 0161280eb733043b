"""The buffer's settings: the environment variables of the original system, with its container's tree as default."""

import errno
import re
from contextlib import suppress
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import NoDecode

from databuffer.tier_urls import TierUrl, parse_tiers
from gwservice.settings import Address, ListenAddress, ServiceSettings, Share, Size, SizeLimit
from gwservice.validation import expectation
from gwwire.manifest import MANIFEST
from gwwire.tiering import DISK, Tiering, parse_duration
from gwwire.tiering import parse_tiers as parse_tier_names

#: Bytes of a file's name. The file systems' limit is 255; names of temporary and rejected files are longer than it.
_LONGEST_NAME = 200
_SIZE: TypeAdapter[int] = TypeAdapter(SizeLimit)
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


#: NoDecode: pydantic-settings would read a tuple as JSON.
Tiers = Annotated[tuple[TierUrl, ...], NoDecode, BeforeValidator(parse_tiers)]


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


Duration = Annotated[int | None, NoDecode, BeforeValidator(_duration)]


def _tier_names(value: object) -> object:
    return parse_tier_names(value) if isinstance(value, str) else value


def _tier_sizes(value: object) -> object:
    """Return the tiers and sizes of `disk=50GB,tape=10TB`."""
    if not isinstance(value, str):
        return value
    sizes: dict[str, int] = {}
    for part in value.split(",") if value.strip() else ():
        name, equals, size = (each.strip() for each in part.partition("="))
        if not equals or name in sizes:
            raise ValueError(f"{part.strip()!r}: expected TIER=SIZE, once for a tier, as disk=50GB,tape=10TB")
        try:
            sizes[name] = _SIZE.validate_python(size)
        except ValidationError as error:
            raise ValueError(f"tier {name}: {size!r}: {expectation(error.errors()[0])}") from None
    return sizes


TierSizes = Annotated[dict[str, SizeLimit], NoDecode, BeforeValidator(_tier_sizes)]
TierNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_tier_names)]
_Positive = Annotated[int, Field(ge=1)]
PositiveDuration = Annotated[_Positive | None, NoDecode, BeforeValidator(_duration)]
FiniteDuration = Annotated[_Positive, NoDecode, BeforeValidator(_duration)]


def segment_prefix(text: str) -> str:
    """Return a prefix of names by which segments can be read, or raise ValueError."""
    if not re.fullmatch(r"[\w.-]{1,150}", text):
        raise ValueError("expected at most 150 letters, digits, '_', '.' and '-'; segments are read by their names")
    return text


def _is_same(one: Path, other: Path) -> bool:
    """Return whether two folders are mounts of the same one."""
    with suppress(OSError):  # one is missing, or cannot be looked at
        return one.samefile(other)
    return False


def _is_volume(folder: Path) -> bool:
    """Return whether a folder is the DTVOLROOT of a buffer."""
    with suppress(OSError):
        return (folder / ".lock").is_file() and (folder / ".incoming").is_dir()
    return False


def _in_volume_of_another(folder: Path, own: Path) -> Path | None:
    """Return the folder that a buffer with a volume other than `own` uses and in which a folder is, or None."""
    for used in (folder, *folder.parents):
        root, mark = used.parent, f".{used.name}.batch.json"
        if root != own and _is_volume(root) and (_RESERVED.fullmatch(used.name) or (root / mark).is_file()):
            return used
    return None


class BufferSettings(ServiceSettings):
    """The settings of the buffer."""

    ADMROOT: Path = Field(Path("/appdata/adm"), description="folder of the metadata files")
    ADMFNM: FileName = Field("StatDesc.json", description="file of the batch's counts, in ADMROOT")
    DSST: FileName = Field("Dsstat.json", description="file of the datastore's state, in ADMROOT")
    DATAROOT: Path = Field(Path("/datavar/data"), description="folder of the current batch, on the volume")
    DATANM: Annotated[FileName, BeforeValidator(name_prefix), AfterValidator(segment_prefix)] = Field(
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
    BUNDLE_QUOTA: Size = Field(
        Size(0), description="bytes that the built files of bundles of a group may take in BUNDLE_CACHE; 0: unlimited"
    )
    TIERS: Tiers = Field(
        (), description="tiers besides the disk, `NAME=URL NAME=URL …`, see [Tiers](tiers.md); empty: none"
    )
    MOVE_RATE: Size = Field(
        Size(0), description="bytes/s that may be copied to and read from tiers in all; 0: unlimited"
    )
    SCRUB_EVERY: PositiveDuration = Field(
        30 * 86_400, description="how often each replica is read and compared again: `12h`, `30d` or `forever`: never"
    )
    OBJECT_HIGH_WATER: Share = Field(
        0.8, description="how full an object store may be before packs that are on tape too leave it"
    )
    RECALL_PIN: FiniteDuration = Field(
        86_400, description="how long what is recalled from tape stays readable for who asked: `12h`, `1d`"
    )
    HOLDING_QUOTA: Size = Field(Size(0), description="bytes that the holdings of a group may have in all; 0: unlimited")
    HOLDING_GRACE: PositiveDuration = Field(
        7 * 86_400,
        description="how long deleted files and holdings can be restored, and uploads continued: `12h`, `7d` or"
        " `forever`",
    )
    HOLDING_ARCHIVE_TO: TierNames = Field(
        (), description="tiers of TIERS to copy the files of holdings to, separated by commas; empty: none"
    )
    HOLDING_KEEP_ON_DISK: Duration = Field(
        None, description="how long the disk keeps files that HOLDING_ARCHIVE_TO copies: `0`, `12h`, `7d` or `forever`"
    )
    HOLDING_TIER_QUOTA: TierSizes = Field(
        {},
        description="bytes that the holdings of a group may have in single tiers, `disk=50GB,tape=10TB`: in the disk,"
        " and in those of HOLDING_ARCHIVE_TO",
    )
    CALLER_SECRET_FILE: Path | None = Field(
        None, description="file with the secret that dslogic must present; without it, every caller is accepted"
    )

    @property
    def holding_tiering(self) -> Tiering | None:
        """The policy for the files of holdings, or None if there is none."""
        return Tiering(self.HOLDING_ARCHIVE_TO, self.HOLDING_KEEP_ON_DISK) if self.HOLDING_ARCHIVE_TO else None

    @property
    def tier_quotas(self) -> dict[str, int]:
        """The bytes that the holdings of a group may have in single tiers."""
        return {name: int(size) for name, size in self.HOLDING_TIER_QUOTA.items()}

    @model_validator(mode="after")
    def _files_go_to_tiers_that_exist(self) -> Self:
        names = [url.name for url in self.TIERS]
        if missing := [name for name in self.HOLDING_ARCHIVE_TO if name not in names]:
            raise ValueError(f"HOLDING_ARCHIVE_TO: no tier {missing[0]!r}; TIERS names {', '.join(names) or 'none'}")
        for name in self.HOLDING_TIER_QUOTA:
            if name not in {DISK, *self.HOLDING_ARCHIVE_TO}:
                has = ", ".join((DISK, *self.HOLDING_ARCHIVE_TO))
                raise ValueError(f"HOLDING_TIER_QUOTA: files of holdings are not in tier {name!r}; they are in {has}")
        if self.HOLDING_KEEP_ON_DISK is not None and not self.HOLDING_ARCHIVE_TO:
            reason = "needs a tier in HOLDING_ARCHIVE_TO; without one the disk has the only copy"
            raise ValueError(f"HOLDING_KEEP_ON_DISK {reason}")
        return self

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
        for setting, folder in (("ADMROOT", self.ADMROOT), ("LOGROOT", self.LOGROOT)):
            if used := self._used(folder.resolve()):
                raise ValueError(f"{setting}={str(folder)!r}: expected a folder outside {used}, which the buffer uses")
        return self

    def _used(self, folder: Path) -> Path | None:
        """Return the folder of the batches, or of the buffer's other files, in which a folder is."""
        volume = self.DTVOLROOT.resolve()
        top = folder.relative_to(volume).parts[:1] if folder.is_relative_to(volume) else ()
        reserved = any(name == self.DATAROOT.name or _RESERVED.fullmatch(name) for name in top)
        return self.DTVOLROOT / top[0] if reserved else None

    @model_validator(mode="after")
    def _other_buffers_do_not_move_the_folders(self) -> Self:
        folders = {"DTVOLROOT": self.DTVOLROOT, "ADMROOT": self.ADMROOT, "LOGROOT": self.LOGROOT}
        folders |= {f"TIERS: {url.name}": url.folder for url in self.TIERS if url.folder}
        for setting, folder in folders.items():
            if used := _in_volume_of_another(folder.resolve(), self.DTVOLROOT.resolve()):
                detail = f"expected a folder outside {used}, which another buffer uses"
                raise ValueError(f"{setting}={str(folder)!r}: {detail}")
        if _is_volume(self.DATAROOT):
            raise ValueError(f"DATAROOT={str(self.DATAROOT)!r}: it is the DTVOLROOT of another buffer")
        return self

    @model_validator(mode="after")
    def _tiers_have_folders_of_their_own(self) -> Self:
        folders = [(url.name, url.folder) for url in self.TIERS if url.folder]
        for name, folder in folders:
            if used := self.DTVOLROOT if folder == self.DTVOLROOT.resolve() else self._used(folder):
                raise ValueError(f"TIERS: tier {name} is in {used}, which the buffer uses for other files")
        for (name, folder), (other, its) in combinations(folders, 2):
            if folder.is_relative_to(its) or its.is_relative_to(folder) or _is_same(folder, its):
                reason = "one folder is the other or in it, and two copies could be one file"
                raise ValueError(f"TIERS: tiers {name} and {other}: {reason}")
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

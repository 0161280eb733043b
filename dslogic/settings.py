"""dslogic's settings: the environment variables of the original system, and the policy of the tiers."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode

from dslogic.tiering import policy_of
from gwservice.settings import BaseUrl, RoutePath, ServiceSettings, Share, Size, SizeLimit
from gwwire.tiering import Tiering, duration_text, parse_duration, parse_tiers


def _tiers(value: object) -> object:
    return parse_tiers(value) if isinstance(value, str) else value


def _duration(value: object) -> object:
    return parse_duration(value or "forever") if isinstance(value, str) else value


#: NoDecode: pydantic-settings would read a tuple as JSON.
TierNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_tiers)]
Duration = Annotated[int | None, NoDecode, BeforeValidator(_duration)]


class LogicSettings(ServiceSettings):
    """The address and routes of the buffer, limits, the policy of the tiers, and secrets."""

    ENDP_STAT: RoutePath = Field("/stat", description="the buffer's route for the counts")
    ENDP_DUMP: RoutePath = Field("/dumpLogF", description="the buffer's route for the log")
    ENDP_DUMPF: RoutePath = Field("/dumpF", description="the buffer's route for the file names")
    ENDP_SEND: RoutePath = Field("/sendF", description="the buffer's route that stores a segment")
    ENDP_DESC: RoutePath = Field("/dstat", description="the buffer's route for the state")
    ENDP_UPD_DESC: RoutePath = Field("/upddsc", description="the buffer's route that freezes")
    ENDP_CLEAN: RoutePath = Field("/cleanall", description="the buffer's route that archives")
    DB_BURL: BaseUrl = Field("http://127.0.0.1:8080", description="address of the buffer")
    MAX_SIZE: Size = Field(Size(50_000_000), description="minimum size of a batch that may be frozen, in bytes")
    MAX_BODY: SizeLimit = Field(SizeLimit(64_000_000), description="maximum size of a request body")
    ARCHIVE_TO: TierNames = Field(
        (), description="tiers of the buffer to copy archived batches to, separated by commas; empty: none"
    )
    KEEP_ON_DISK: Duration = Field(
        None, description="how long the disk keeps a batch that ARCHIVE_TO copies: `0`, `90m`, `12h`, `7d` or `forever`"
    )
    OBJECT_HIGH_WATER: Share = Field(
        0.8, description="how full an object store may be before plans name packs that can leave it"
    )
    CALLER_SECRET_FILE: Path | None = Field(
        None, description="file with the secret that the gateway must present; without it, every caller is accepted"
    )
    BUFFER_SECRET_FILE: Path | None = Field(None, description="file with the secret to present to the buffer")

    @property
    def tiering(self) -> Tiering | None:
        """The policy for batches that are archived, or None if there is none."""
        return policy_of(self.ARCHIVE_TO, self.KEEP_ON_DISK)

    @model_validator(mode="after")
    def _check_policy(self) -> Self:
        if self.KEEP_ON_DISK is not None and not self.ARCHIVE_TO:
            raise ValueError(
                f"KEEP_ON_DISK={duration_text(self.KEEP_ON_DISK)} needs a tier in ARCHIVE_TO; without one the disk has "
                "the only copy"
            )
        return self

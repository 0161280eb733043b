"""dslogic's settings: the environment variables of the original system."""

from pathlib import Path

from pydantic import Field

from gwservice.settings import BaseUrl, RoutePath, ServiceSettings, Size, SizeLimit


class LogicSettings(ServiceSettings):
    """The address and routes of the buffer, limits, and secrets."""

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
    CALLER_SECRET_FILE: Path | None = Field(
        None, description="file with the secret that the gateway must present; without it, every caller is accepted"
    )
    BUFFER_SECRET_FILE: Path | None = Field(None, description="file with the secret to present to the buffer")

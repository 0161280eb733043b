"""The rules' settings: the environment variables of the original system."""

from pathlib import Path

from pydantic import Field

from gwservice.settings import BaseUrl, ServiceSettings, Size


class LogicSettings(ServiceSettings):
    """Where the buffer is, what its routes are called, and how large a batch becomes."""

    ENDP_STAT: str = Field("/stat", description="the buffer's route for the counts")
    ENDP_DUMP: str = Field("/dumpLogF", description="the buffer's route for the log")
    ENDP_DUMPF: str = Field("/dumpF", description="the buffer's route for the file names")
    ENDP_SEND: str = Field("/sendF", description="the buffer's route that stores a segment")
    ENDP_DESC: str = Field("/dstat", description="the buffer's route for the state")
    ENDP_UPD_DESC: str = Field("/upddsc", description="the buffer's route that freezes")
    ENDP_CLEAN: str = Field("/cleanall", description="the buffer's route that archives")
    ENDP_THAW: str = Field("/thaw", description="the buffer's route that opens a frozen batch again")
    ENDP_OVERVIEW: str = Field("/overview", description="the buffer's route for everything at a glance")
    ENDP_COVERAGE: str = Field("/coverage", description="the buffer's route for the stretches of time that are stored")
    ENDP_BATCHES: str = Field("/batches", description="the buffer's route for the batches")
    ENDP_SEGMENTS: str = Field("/segments", description="the buffer's route for the segments")
    DB_BURL: BaseUrl = Field("http://127.0.0.1:8080", description="address of the buffer")
    MAX_SIZE: Size = Field(Size(50_000_000), description="bytes from which on a batch may be frozen")
    MAX_BODY: Size = Field(Size(64_000_000), description="the largest request body")
    HEADER_TIMEOUT: float = Field(10, gt=0, description="seconds for the headers of a request to come")
    BODY_TIMEOUT: float = Field(90, gt=0, description="seconds for a body to come, or for the next piece of a stream")
    CALLER_SECRET_FILE: Path | None = Field(
        None, description="file with the secret that the gateway must present; without one, everybody is answered"
    )
    BUFFER_SECRET_FILE: Path | None = Field(None, description="file with the secret to present to the buffer")

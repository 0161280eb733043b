"""The gateway's settings: the environment variables of the original system."""

from pydantic import Field

from gwservice.settings import Address, BaseUrl, ListenAddress, ServiceSettings, Size


class GatewaySettings(ServiceSettings):
    """Where dslogic is and what its routes are called."""

    DS_STAT: str = Field("/bufstat", description="dslogic's route for the counts")
    DS_DUMPF: str = Field("/dumpf", description="dslogic's route for the file names")
    DS_SEND: str = Field("/stream", description="dslogic's route that stores a segment")
    DS_DESC: str = Field("/dsdesc", description="dslogic's route for the state")
    DS_FREEZE: str = Field("/freezeds", description="dslogic's route that freezes")
    DS_FLUSH: str = Field("/flushbuf", description="dslogic's route that archives")
    DS_THAW: str = Field("/thawds", description="dslogic's route that opens a frozen batch again")
    DS_OVERVIEW: str = Field("/overview", description="dslogic's route for everything at a glance")
    DS_BATCHES: str = Field("/batches", description="dslogic's route for the batches")
    DS_SEGMENTS: str = Field("/segments", description="dslogic's route for the segments")
    DS_BURL: BaseUrl = Field("http://127.0.0.1:5000", description="address of dslogic")
    MAX_SIZE: Size | None = Field(None, description="known from the original's manifests; the rule is dslogic's")
    LISTEN: ListenAddress = Field(Address("0.0.0.0", 8000), description="where `python -m glitchflow_api` listens")  # noqa: S104 (a container listens on every interface)
    MAX_BODY: Size = Field(Size(64_000_000), description="the largest request body")

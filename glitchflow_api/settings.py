"""The gateway's settings: the environment variables of the original system, limits, and access."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_settings import NoDecode

from gwservice.settings import Address, BaseUrl, ListenAddress, RoutePath, ServiceSettings, Size, SizeLimit
from gwwire.public import AuthMode, Scope

ScopeMap = Mapping[str, frozenset[Scope]]


def parse_scope_map(text: str | ScopeMap) -> ScopeMap:
    """Parse `storage.read:/=read storage.modify:/=stream storage.modify:/=clean`, or raise ValueError."""
    if not isinstance(text, str):
        return text
    granted: dict[str, frozenset[Scope]] = {}
    for pair in text.split():
        token_scope, sign, scope = pair.rpartition("=")
        if not sign or scope not in set(Scope):
            raise ValueError(f"{pair!r} is not TOKEN_SCOPE=SCOPE, where SCOPE is one of {', '.join(Scope)}")
        granted[token_scope] = granted.get(token_scope, frozenset()) | {Scope(scope)}
    return granted


_WLCG_SCOPES = """
storage.read:/=read storage.create:/=stream storage.modify:/=stream storage.modify:/=clean compute.create=train
"""


class GatewaySettings(ServiceSettings):
    """The address and routes of dslogic, limits, and access."""

    DS_STAT: RoutePath = Field("/bufstat", description="dslogic's route for the counts")
    DS_DUMPF: RoutePath = Field("/dumpf", description="dslogic's route for the file names")
    DS_SEND: RoutePath = Field("/stream", description="dslogic's route that stores a segment")
    DS_DESC: RoutePath = Field("/dsdesc", description="dslogic's route for the state")
    DS_FREEZE: RoutePath = Field("/freezeds", description="dslogic's route that freezes")
    DS_FLUSH: RoutePath = Field("/flushbuf", description="dslogic's route that archives")
    DS_BURL: BaseUrl = Field("http://127.0.0.1:5000", description="address of dslogic")
    MAX_SIZE: Size | None = Field(
        None, description="accepted because the original's manifests set it; dslogic applies its own"
    )
    EVENTS_INTERVAL: float = Field(
        1.0, gt=0, le=60, description="seconds between polls of dslogic while /events has listeners"
    )
    EVENTS_LISTENERS: int = Field(200, ge=1, description="maximum number of listeners of /events and of WebSockets")
    LISTEN: ListenAddress = Field(Address("0.0.0.0", 8000), description="where `python -m glitchflow_api` listens")  # noqa: S104 (a container listens on every interface)
    MAX_BODY: SizeLimit = Field(SizeLimit(64_000_000), description="maximum size of a request body")
    HEADER_TIMEOUT: float = Field(10, gt=0, description="time limit for the headers of a request, s")
    BODY_TIMEOUT: float = Field(60, gt=0, description="time limit for a body, or for the next piece of a stream, s")
    MAX_CONNECTIONS: int = Field(1000, ge=1, description="maximum number of open connections")
    MAX_STREAMS: int = Field(
        32, ge=1, description="maximum number of concurrent requests of many segments; others wait"
    )
    MAX_WAITING: int | None = Field(
        None,
        ge=1,
        description="maximum number of readers of /changes, and of open claims; others are refused; default: a third of"
        " MAX_CONNECTIONS",
    )
    RATE: float = Field(
        0, ge=0, description="requests per second of a key, or of an address without keys; 0: unlimited"
    )
    BURST: int = Field(100, ge=1, description="requests allowed at once, with RATE")
    TLS_CERT: Path | None = Field(None, description="the gateway's own certificate with its chain (PEM), for https")
    TLS_KEY: Path | None = Field(None, description="the key of TLS_CERT (PEM, without a passphrase)")
    LOGIC_SECRET_FILE: Path | None = Field(None, description="file with the secret to present to dslogic")
    AUTH: AuthMode = Field(AuthMode.OFF, description="how callers are identified: `off` (not at all), `keys` or `jwt`")
    KEYS_FILE: Path = Field(Path("/etc/glitchflow/keys.json"), description="file with the API keys, for AUTH=keys")
    JWT_ISSUER: str = Field("", description="issuer of accepted tokens (their `iss`), for AUTH=jwt")
    JWT_AUDIENCE: str = Field("", description="accepted audiences (`aud`), separated by commas")
    JWT_JWKS: str = Field("", description="the issuer's public keys: a URL, or a file")
    JWT_SCOPES: Annotated[ScopeMap, NoDecode, BeforeValidator(parse_scope_map)] = Field(
        parse_scope_map(_WLCG_SCOPES), description="the scopes that a token's scopes grant; each is compared as a whole"
    )
    JWT_GROUP: str = Field(
        "wlcg.groups", description="the claim with the caller's group, of 1 to 255 characters; the first one of a list"
    )
    NLDS_API: Literal["off", "on"] = Field("off", description="whether NLDS' HTTP API is served: `on` or `off`")
    NLDS_ROOTS: str = Field(
        "",
        description="folders that users share with the gateway, with colons between them; `{user}` and `{group}` stand"
        " for those of the caller; for NLDS_API=on",
    )
    NLDS_STATE: Path | None = Field(
        None, description="folder of this gateway in which NLDS' transactions are kept, for NLDS_API=on"
    )

    @property
    def nlds_roots(self) -> list[str]:
        """The folders of NLDS_ROOTS."""
        return [root for root in self.NLDS_ROOTS.split(":") if root]

    @property
    def max_waiting(self) -> int:
        """The limit of MAX_WAITING; readers and claims together leave connections to other requests."""
        return self.MAX_WAITING or max(1, self.MAX_CONNECTIONS // 3)

    @model_validator(mode="after")
    def _tls_is_complete(self) -> Self:
        if (self.TLS_CERT is None) != (self.TLS_KEY is None):
            raise ValueError("TLS_CERT and TLS_KEY must be set together; one of them is missing")
        return self

    @model_validator(mode="after")
    def _jwt_is_complete(self) -> Self:
        missing = [name for name in ("JWT_ISSUER", "JWT_AUDIENCE", "JWT_JWKS") if not getattr(self, name)]
        if self.AUTH is AuthMode.JWT and missing:
            raise ValueError(f"AUTH=jwt needs {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _nlds_is_complete(self) -> Self:
        if self.NLDS_API == "off":
            return self
        if self.AUTH is AuthMode.OFF:
            raise ValueError("NLDS_API=on needs AUTH=keys or AUTH=jwt: anybody could read the folders of NLDS_ROOTS")
        if not self.nlds_roots or self.NLDS_STATE is None:
            raise ValueError("NLDS_API=on needs NLDS_ROOTS and NLDS_STATE")
        if wrong := [root for root in self.nlds_roots if not root.startswith("/")]:
            raise ValueError(f"NLDS_ROOTS: {wrong[0]!r} is not an absolute path")
        if unknown := set(re.findall(r"{[^/]*?}", self.NLDS_ROOTS)) - {"{user}", "{group}"}:
            raise ValueError(f"NLDS_ROOTS: {min(unknown)} is unknown; there are {{user}} and {{group}}")
        return self

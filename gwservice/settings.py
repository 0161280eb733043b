"""Settings come from the environment, each with a default; a bad value stops the service with one clear line."""

import sys
from typing import Annotated, NamedTuple, Self

from pydantic import BeforeValidator, ByteSize, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gwservice.logs import LogFormat

#: A number of bytes, written as `1048576`, `50MB` or `50MiB`.
Size = Annotated[ByteSize, Field(ge=0)]


class Address(NamedTuple):
    """Where a service listens: `":8080"` is port 8080 on every interface."""

    host: str
    port: int


def parse_address(text: str | Address) -> Address:
    """Read `HOST:PORT`, `:PORT`, `PORT` or `[v6]:PORT`.

    Raises:
        ValueError: the text is none of these.

    """
    if isinstance(text, Address):
        return text
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 <= int(port) < 2**16:
        message = f"{text!r} is not HOST:PORT"
        raise ValueError(message)
    return Address(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 (a container listens on every interface)


#: NoDecode: pydantic-settings would read a tuple as JSON.
ListenAddress = Annotated[Address, NoDecode, BeforeValidator(parse_address)]


def strip_slash(text: str) -> str:
    """Give a base URL in the form the routes are appended to.

    Raises:
        ValueError: the text is not an http(s) URL.

    """
    if not text.startswith(("http://", "https://")):
        message = f"{text!r} is not an http:// or https:// address"
        raise ValueError(message)
    return text.rstrip("/")


BaseUrl = Annotated[str, BeforeValidator(strip_slash)]


def begin_with_slash(text: str) -> str:
    """Return a route below a base URL, whether or not it was written with a leading slash."""
    return f"/{text.lstrip('/')}"


RoutePath = Annotated[str, BeforeValidator(begin_with_slash)]


class ServiceSettings(BaseSettings):
    """The base of each service's settings: names are the environment variables, to the letter."""

    model_config = SettingsConfigDict(case_sensitive=True, frozen=True, extra="forbid", validate_default=True)

    LOG_FORMAT: LogFormat | None = Field(None, description="log lines as `json` or `text`; unset: text for a terminal")

    @classmethod
    def load(cls) -> Self:
        """Read the environment; where a value is bad, say which in one line each and exit with status 2."""
        try:
            return cls()
        except ValidationError as error:
            service = cls.__module__.partition(".")[0]
            for bad in error.errors():
                reason = bad["msg"].removeprefix("Value error, ")
                # A rule between settings has no place of its own; its message names them.
                place = f"setting {bad['loc'][0]}={bad['input']!r}: " if bad["loc"] else ""
                sys.stderr.write(f"{service}: {place}{reason}\n")
            sys.exit(2)

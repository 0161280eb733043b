"""Settings from the environment, each with a default; an invalid value stops the service with one line."""

import re
import sys
from fractions import Fraction
from pathlib import Path
from typing import Annotated, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, ByteSize, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError, PydanticKnownError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from gwservice.logs import LogFormat
from gwservice.validation import expectation
from gwwire.url_user import hide_user

_SIZE = re.compile(r"\s*(\d*\.?\d+)\s*([a-z]*)\s*", re.IGNORECASE)
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d+)?)%")


def _whole_bytes(size: object) -> object:
    """Parse a number of bytes; pydantic would round it, and read `1e-9` as `1e`, an exabyte."""
    if not isinstance(size, str):
        return size
    if (parts := _SIZE.fullmatch(size)) and (unit := ByteSize.byte_sizes.get(parts[2].lower() or "b")):
        count = Fraction(parts[1]) * Fraction(unit)
        if count.denominator == 1:
            return int(count)
    raise PydanticCustomError("byte_size", "not a whole number of bytes")


def _share(value: object) -> object:
    if not isinstance(value, str):
        return value
    if (parts := _PERCENT.fullmatch(value)) and 0 < (share := Fraction(parts[1]) / 100) <= 1:
        return float(share)
    raise ValueError("expected a percentage above 0%, at most 100%, as 80%")


#: A number of bytes, written as `1048576`, `50MB` or `50MiB`.
Size = Annotated[ByteSize, BeforeValidator(_whole_bytes), Field(ge=0)]
#: The largest size of something; 0 is refused, because nothing could be sent.
SizeLimit = Annotated[ByteSize, BeforeValidator(_whole_bytes), Field(ge=1)]
#: A percentage such as `80%`, as a number from 0 to 1.
Share = Annotated[float, BeforeValidator(_share)]


class Address(NamedTuple):
    """The address on which a service listens: `":8080"` is port 8080 on every interface."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Return whether only processes of this machine can connect."""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")


def parse_address(text: str | Address) -> Address:
    """Parse `HOST:PORT`, `:PORT`, `PORT` or `[v6]:PORT`; raise ValueError for any other text."""
    if isinstance(text, Address):
        return text
    host, _, port = text.rpartition(":")
    if not (port.isdecimal() and 0 <= int(port) < 2**16 and _may_be_resolved(host)):
        raise ValueError("expected HOST:PORT, :PORT or PORT")
    return Address(host.strip("[]") or "0.0.0.0", int(port))  # noqa: S104 (a container listens on every interface)


def _may_be_resolved(host: str) -> bool:
    if re.search(r"[\s/@]", host):  # of a URL
        return False
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


#: NoDecode: pydantic-settings would read a tuple as JSON.
ListenAddress = Annotated[Address, NoDecode, BeforeValidator(parse_address)]


def _strip_slash(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        usable = usable and "@" not in parts.netloc and not re.search(r"\s", text)
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("expected http://HOST:PORT or https://HOST:PORT")
    return text.rstrip("/")


def _with_slash(text: str) -> str:
    if not text or re.search(r"[\s?#]", text):
        raise ValueError("expected a path such as /stat")
    return f"/{text.lstrip('/')}"


#: A URL to which routes are appended.
BaseUrl = Annotated[str, BeforeValidator(_strip_slash)]
#: A route below a base URL, written with or without a leading slash.
RoutePath = Annotated[str, BeforeValidator(_with_slash)]


_PATHS = (Path, Path | None)


class ServiceSettings(BaseSettings):
    """The base of each service's settings; their names are exactly those of the environment variables."""

    model_config = SettingsConfigDict(case_sensitive=True, frozen=True, extra="forbid", validate_default=True)

    LOG_FORMAT: LogFormat | None = Field(None, description="log lines as `json` or `text`; unset: text for a terminal")

    @field_validator("*", mode="before")
    @classmethod
    def _as_text(cls, value: object, info: ValidationInfo) -> object:
        """Strip the line break that files of settings often end a value with, and refuse what cannot be meant.

        Neither a log line nor the catalog could contain text that is not UTF-8, and an empty path would be the working
        directory.
        """
        if not isinstance(value, str):
            return value
        if re.search(r"[\ud800-\udfff]", value):
            raise PydanticKnownError("string_unicode")
        value = value.strip()
        if cls.model_fields[info.field_name or ""].annotation in _PATHS and not (value and value.isprintable()):
            raise ValueError("expected a path of printable characters")
        return value

    @classmethod
    def load(cls) -> Self:
        """Read the environment; exit with status 2, and one line for each invalid value."""
        try:
            return cls()
        except ValidationError as error:
            service = cls.__module__.partition(".")[0]
            for bad in error.errors():
                # A rule between settings has no location; its message names them.
                place = f"setting {bad['loc'][0]}={bad['input']!r}: " if bad["loc"] else ""
                sys.stderr.write(hide_user(f"{service}: {place}{expectation(bad)}\n"))
            sys.exit(2)

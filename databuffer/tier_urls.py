"""The setting TIERS: names and URLs of the tiers besides the disk."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from os.path import realpath  # `Path.resolve` raises an error for a link to itself
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import TypeAdapter, ValidationError

from gwservice.settings import SizeLimit

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
_SIZE: TypeAdapter[int] = TypeAdapter(SizeLimit)
#: Longest time that an option can ask for, in seconds.
_LONGEST = 3600.0


@dataclass(frozen=True, slots=True)
class TierUrl:
    """A tier's name and where it is: `scheme://host/path?options`, with `path` beginning with `/` or empty."""

    name: str
    scheme: str
    host: str
    path: str
    options: Mapping[str, int | float] = field(default_factory=dict)

    @property
    def folder(self) -> Path | None:
        """The folder of this machine in which its files are, without links, or None for another kind of tier."""
        return Path(realpath(self.path)) if self.scheme in {"file", "folder"} else None


def _count(text: str) -> int:
    if not (text.isdecimal() and len(text) < 4 and int(text)):  # noqa: PLR2004 (a thousand drives are a mistake)
        raise ValueError("expected a number from 1 to 999")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= _LONGEST:
        raise ValueError(f"expected seconds from 0 to {_LONGEST:.0f}")
    return seconds


def _size(text: str) -> int:
    try:
        return int(_SIZE.validate_python(text))
    except ValidationError:
        raise ValueError("expected a number of bytes such as 300MB") from None


@dataclass(frozen=True, slots=True)
class _Scheme:
    """The parts of a URL with this scheme, and the library that it needs."""

    form: str
    has_host: bool
    has_path: bool
    library: str = ""
    extra: str = ""
    options: Mapping[str, Callable[[str], int | float]] = field(default_factory=dict)


#: Options of a tape, see docs/tiers.md.
_TAPE: Mapping[str, Callable[[str], int | float]] = {
    "drives": _count,
    "mount": _seconds,
    "seek": _seconds,
    "rate": _size,
    "online": _size,
}
#: The option of every other tier.
_CAPACITY: Mapping[str, Callable[[str], int | float]] = {"capacity": _size}
_SCHEMES = {
    "file": _Scheme("file:///FOLDER", has_host=False, has_path=True, options=_CAPACITY),
    "folder": _Scheme("folder:///FOLDER", has_host=False, has_path=True, options=_TAPE),
    "s3": _Scheme(
        "s3://BUCKET/PREFIX", has_host=True, has_path=False, library="obstore", extra="tiers", options=_CAPACITY
    ),
    "gs": _Scheme(
        "gs://BUCKET/PREFIX", has_host=True, has_path=False, library="obstore", extra="tiers", options=_CAPACITY
    ),
    "az": _Scheme(
        "az://CONTAINER/PREFIX", has_host=True, has_path=False, library="obstore", extra="tiers", options=_CAPACITY
    ),
    "root": _Scheme("root://HOST:PORT//FOLDER", has_host=True, has_path=True, library="XRootD", extra="tape"),
    "tape+https": _Scheme("tape+https://HOST:PORT/FOLDER", has_host=True, has_path=True, options=_CAPACITY),
    "tape+http": _Scheme("tape+http://HOST:PORT/FOLDER", has_host=True, has_path=True, options=_CAPACITY),
}


def parse_tiers(text: str | tuple[TierUrl, ...]) -> tuple[TierUrl, ...]:
    """Parse `NAME=URL NAME=URL …`; raise ValueError with a text that names the wrong part."""
    if not isinstance(text, str):
        return text
    tiers: list[TierUrl] = []
    for word in text.split():
        tier = _tier(word)
        if any(tier.name == other.name for other in tiers):
            raise ValueError(f"two tiers are named {tier.name}")
        if _place(tier) in map(_place, tiers):
            raise ValueError(f"two tiers have the place of {tier.name}")
        tiers.append(tier)
    return tuple(tiers)


def _place(tier: TierUrl) -> tuple[str, str, str]:
    return tier.scheme, tier.host.lower(), tier.path.rstrip("/")


def _tier(word: str) -> TierUrl:
    name, equals, url = word.partition("=")
    if not equals or not _NAME.fullmatch(name):
        raise ValueError(f"{word!r}: expected NAME=URL, with a name of up to 32 of a-z, 0-9 and '-', a letter first")
    if name == "disk":
        raise ValueError("the tier disk is always there and has no URL; choose another name")
    try:
        parts = urlsplit(url)
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise ValueError(f"{name}: {url!r} is not a URL ({error})") from None
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None:
        raise ValueError(f"{name}: unknown scheme {parts.scheme!r}; known: {', '.join(_SCHEMES)}")
    host, path = unquote(parts.netloc), unquote(parts.path)
    if parts.fragment or bool(host) != scheme.has_host or (scheme.has_path and not path.strip("/")):
        raise ValueError(f"{name}: {url!r}: expected {scheme.form}")
    if not (host + path).isprintable():
        raise ValueError(f"{name}: {url!r}: expected printable characters")
    if scheme.library and find_spec(scheme.library) is None:
        needed = f"'glitchflow-datastore[{scheme.extra}]'"
        raise ValueError(f"{name}: {parts.scheme}:// needs the library {scheme.library}: pip install {needed}")
    return TierUrl(name, parts.scheme, host, path, _options(name, scheme, options))


def _options(name: str, scheme: _Scheme, given: list[tuple[str, str]]) -> Mapping[str, int | float]:
    options: dict[str, int | float] = {}
    for option, text in given:
        if option not in scheme.options or option in options:
            known = ", ".join(scheme.options) or "none"
            raise ValueError(f"{name}: option {option!r} is unknown or given twice; known: {known}")
        try:
            options[option] = scheme.options[option](text)
        except ValueError as error:
            raise ValueError(f"{name}: {option}={text}: {error}") from None
    return options

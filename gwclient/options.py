"""The options that several commands share, and their types."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import reduce, wraps
from pathlib import Path
from typing import Any, ClassVar

import click

from gwclient.api_key import read_api_key
from gwclient.client import GlitchflowClient, Retry, parse_gateway_url
from gwclient.pieces import Length

Command = Callable[..., Any]

DEFAULT_SRV = "http://127.0.0.1:8000"


class Gateway(click.ParamType[str]):
    """The address of a gateway."""

    name = "URL"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the base URL."""
        try:
            return parse_gateway_url(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Detectors(click.ParamType[tuple[str, ...]]):
    """Detectors, with commas between them, none of them twice."""

    name = "H1,L1"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the detectors in the order named."""
        if isinstance(value, tuple):
            return value
        detectors = tuple(part.strip() for part in value.split(","))
        for detector in detectors:
            if not re.fullmatch(r"[A-Z]\d", detector):
                self.fail(f"{detector!r} is no detector; they are named like H1, L1, V1", param, ctx)
        if len(set(detectors)) != len(detectors):
            self.fail(f"{value!r} names a detector twice", param, ctx)
        return detectors


class Seconds(click.ParamType[float]):
    """A finite number of seconds, within bounds."""

    name = "SECONDS"

    def __init__(self, least: float = -math.inf, most: float = math.inf) -> None:
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        try:
            seconds = float(value)
        except ValueError:
            self.fail(f"{value!r} is no number", param, ctx)
        if not math.isfinite(seconds) or not self._least <= seconds <= self._most:
            bounds = f" from {self._least:g} to {self._most:g}" if math.isfinite(self._most) else ""
            self.fail(f"{value} is no number of seconds{bounds}", param, ctx)
        return seconds


class Bits(click.ParamType[tuple[str, ...]]):
    """Names of data-quality bits, with commas between them; `none` for none."""

    name = "BITS"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the names."""
        if isinstance(value, tuple):
            return value
        bits = tuple(part.strip().upper() for part in value.split(","))
        if bits == ("NONE",):
            return ()
        if not all(re.fullmatch(r"\w+", bit) for bit in bits):
            self.fail(f"{value!r} names no data-quality bits; they are named like DATA, CBC_CAT1", param, ctx)
        return bits


class Size(click.ParamType[int]):
    """A number of bytes, as 500MB or 2GiB."""

    name = "SIZE"
    _UNITS: ClassVar = {"": 1, "B": 1, **{f"{p}B": 1000**i for i, p in enumerate("KMGT", 1)}} | {
        f"{p}IB": 1024**i for i, p in enumerate("KMGT", 1)
    }

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", str(value).strip())
        if match is None or match[2].upper() not in self._UNITS:
            self.fail(f"{value!r} is no size; sizes are written like 500MB", param, ctx)
        return int(float(match[1]) * self._UNITS[match[2].upper()])


@dataclass
class Debugging:
    """Whether errors are shown with their traceback."""

    on: bool = False


@dataclass(frozen=True)
class Connection:
    """How to reach the gateway, and whether answers are printed as JSON."""

    srv: str = DEFAULT_SRV
    tries: int = Retry.tries
    timeout: float = 30.0
    as_json: bool = False
    key_file: Path | None = None

    def client(self, on_retry: Callable[[str, float], None] | None = None) -> GlitchflowClient:
        """Return a client of the gateway, which is not open yet."""
        retry = Retry(tries=self.tries)
        return GlitchflowClient(self.srv, retry=retry, timeout=self.timeout, on_retry=on_retry, api_key=self._api_key())

    def _api_key(self) -> str | None:
        try:
            return read_api_key(self.key_file) if self.key_file else None
        except ValueError as error:
            raise click.UsageError(str(error)) from error


@dataclass(frozen=True)
class PushOptions:
    """How to push."""

    concurrency: int = 16
    segment_seconds: float = 1.0
    segment_samples: int | None = None
    wait: bool = False
    poll: float = 3.0
    restart: bool = False

    @property
    def length(self) -> Length:
        """How long a segment is."""
        return Length(self.segment_seconds, self.segment_samples)


def _set_debugging(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001 (click calls it so)
    if value and (debugging := ctx.find_object(Debugging)):
        debugging.on = True


_CONNECTION_OPTIONS = (
    click.option(
        "--srv", type=Gateway(), envvar="SRV", default=DEFAULT_SRV, show_default=True, show_envvar=True,
        help="The gateway; host:port will do.",
    ),
    click.option(
        "--tries", type=click.IntRange(1, 100), default=Retry.tries, show_default=True,
        help="How often to try what may pass before giving up.",
    ),
    click.option(
        "--timeout", type=Seconds(0.1, 3600), default=30.0, show_default=True, help="How long one try may take."
    ),
    click.option(
        "--key-file", type=click.Path(dir_okay=False, path_type=Path), envvar="GLITCHFLOW_KEY_FILE", show_envvar=True,
        help="A file with the API key, where the gateway asks for one.",
    ),
    click.option(
        "--debug", is_flag=True, expose_value=False, callback=_set_debugging, help="Show where an error comes from."
    ),
    click.option("--json", "as_json", is_flag=True, help="Answer with one JSON object, for programs."),
)  # fmt: skip

_PUSH_OPTIONS = (
    click.option(
        "--concurrency", type=click.IntRange(1, 256), default=16, show_default=True,
        help="Segments on their way at a time.",
    ),
    click.option(
        "--segment-seconds", type=Seconds(0.01, 64), default=1.0, show_default=True, help="The length of a segment."
    ),
    click.option(
        "--segment-samples", type=click.IntRange(1, 2**20), help="The same in samples, instead of seconds."
    ),
    click.option("--wait", is_flag=True, help="While the datastore is frozen, wait and go on when it opens."),
    click.option(
        "--poll", type=Seconds(0.05, 3600), default=3.0, show_default=True, help="How often to ask with --wait."
    ),
    click.option("--restart", is_flag=True, help="Forget what was acknowledged before, and send all of it again."),
)  # fmt: skip


def _with_options(name: str, kind: type[Any], options: Sequence[Command]) -> Callable[[Command], Command]:
    """Add options to a command, which receives them as one `kind` in the argument `name`."""

    def decorate(command: Command) -> Command:
        @wraps(command)  # which also hands on the options the command has so far
        def gathered(**values: Any) -> Any:
            values[name] = kind(**{each.name: values.pop(each.name) for each in fields(kind)})
            return command(**values)

        return reduce(lambda inner, option: option(inner), reversed(options), gathered)

    return decorate


with_connection = _with_options("connection", Connection, _CONNECTION_OPTIONS)
with_push_options = _with_options("options", PushOptions, _PUSH_OPTIONS)

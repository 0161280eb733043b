"""The options that several commands share, and what their values may be."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import reduce, wraps
from typing import Any

import click

from gwclient.client import GlitchflowClient, Retry, parse_gateway_url

Command = Callable[..., Any]

DEFAULT_SRV = "http://127.0.0.1:8000"


class Gateway(click.ParamType[str]):
    """The address of a gateway."""

    name = "URL"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Give the base URL."""
        try:
            return parse_gateway_url(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Detectors(click.ParamType[tuple[str, ...]]):
    """Detectors, with commas between them, none of them twice."""

    name = "H1,L1"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Give the detectors in the order named."""
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
        """Give the number."""
        try:
            seconds = float(value)
        except ValueError:
            self.fail(f"{value!r} is no number", param, ctx)
        if not math.isfinite(seconds) or not self._least <= seconds <= self._most:
            bounds = f" from {self._least:g} to {self._most:g}" if math.isfinite(self._most) else ""
            self.fail(f"{value} is no number of seconds{bounds}", param, ctx)
        return seconds


@dataclass(frozen=True)
class Door:
    """How to reach the gateway, and whether a person or a program reads the answer."""

    srv: str = DEFAULT_SRV
    tries: int = Retry.tries
    timeout: float = 30.0
    as_json: bool = False

    def client(self, on_retry: Callable[[str, float], None] | None = None) -> GlitchflowClient:
        """Give a client for that gateway, not yet open."""
        retry = Retry(tries=self.tries)
        return GlitchflowClient(self.srv, retry=retry, timeout=self.timeout, on_retry=on_retry)


@dataclass(frozen=True)
class Sending:
    """How to send."""

    concurrency: int = 16
    segment_seconds: float = 1.0
    wait: bool = False
    poll: float = 3.0


_DOOR_OPTIONS = (
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
    click.option("--json", "as_json", is_flag=True, help="Answer with one JSON object, for programs."),
)  # fmt: skip

_SENDING_OPTIONS = (
    click.option(
        "--concurrency", type=click.IntRange(1, 256), default=16, show_default=True,
        help="Segments on their way at a time.",
    ),
    click.option(
        "--segment-seconds", type=Seconds(0.01, 64), default=1.0, show_default=True, help="The length of a segment."
    ),
    click.option("--wait", is_flag=True, help="While the datastore is frozen, wait and go on when it opens."),
    click.option(
        "--poll", type=Seconds(0.05, 3600), default=3.0, show_default=True, help="How often to ask with --wait."
    ),
)  # fmt: skip


def _with_options(name: str, kind: type[Any], options: Sequence[Command]) -> Callable[[Command], Command]:
    """Add options to a command, which receives them as one `kind` under `name`."""

    def decorate(command: Command) -> Command:
        @wraps(command)  # which also hands on the options the command has so far
        def gathered(**values: Any) -> Any:
            values[name] = kind(**{each.name: values.pop(each.name) for each in fields(kind)})
            return command(**values)

        return reduce(lambda inner, option: option(inner), reversed(options), gathered)

    return decorate


with_door = _with_options("door", Door, _DOOR_OPTIONS)
with_sending = _with_options("sending", Sending, _SENDING_OPTIONS)

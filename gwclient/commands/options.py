"""The options that several commands share, with their types, and what they describe."""

import asyncio
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce, wraps
from pathlib import Path
from typing import Any, Self, TypeVar

import click
import msgspec

from gwclient.api_key import read_api_key
from gwclient.client import GlitchflowClient, Retry, parse_gateway_url
from gwclient.pieces import Length
from gwwire.decoding import InvalidRequest
from gwwire.gps import gps_of_utc
from gwwire.query import Query, parse_words
from gwwire.tiering import Tiering, parse_duration, parse_tiers

Command = Callable[..., Any]
T = TypeVar("T")

#: Tries of a question without a connection, and of those of `doctor`; they take about a second.
FEW_TRIES = 3

_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{p}B": 1000**i for i, p in enumerate("KMGT", 1)} | {f"{p}IB": 1024**i for i, p in enumerate("KMGT", 1)}


def unquoted(value: str) -> str:
    """Return the value of a setting without white space and quotes around it, which `docker --env-file` keeps."""
    stripped = value.strip()
    quoted = len(stripped) > 1 and stripped[0] in "'\"" and stripped[0] == stripped[-1]
    return stripped[1:-1].strip() if quoted else stripped


class GivenPath(click.Path):
    """A path; an empty text, such as a variable that is not set, is none, and not the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or fail."""
        if not os.fspath(value):
            self.fail("a path cannot be empty", param, ctx)
        return super().convert(value, param, ctx)


class StrictCommand(click.Command):
    """A command that refuses an option of one value that is given twice; click takes the last value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, or raise UsageError."""
        if not ctx.resilient_parsing:
            _, _, given = self.make_parser(ctx).parse_args(list(args))
            for each in set(given):
                if isinstance(each, click.Option) and not (each.multiple or each.is_flag) and given.count(each) > 1:
                    raise click.UsageError(f"{each.opts[-1]} may be given once only", ctx)
        return super().parse_args(ctx, args)


#: A path as text, which a command checks itself.
PATH_TEXT = GivenPath(readable=False)

# click shows the name of the function that parses an option, in capitals, as the option's type.


def name(value: str) -> str:
    """Parse a name; an empty text, such as a variable that is not set, is none."""
    if not value:
        raise click.BadParameter("a name cannot be empty")
    return value


def url(value: str) -> str:
    """Parse the address of a gateway."""
    try:
        return parse_gateway_url(unquoted(value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def detectors(value: str) -> tuple[str, ...]:
    """Parse detectors with commas between them; none may be named twice."""
    named = tuple(part.strip() for part in value.split(","))
    for detector in named:
        if not re.fullmatch(r"[A-Z]\d", detector):
            raise click.BadParameter(f"{detector!r} is not a detector; detectors are named like H1, L1, V1")
    if len(set(named)) != len(named):
        raise click.BadParameter(f"{value!r} names a detector twice")
    return named


def seconds(
    least: float = -math.inf, most: float = math.inf, quantity: str = "number of seconds"
) -> Callable[[Any], float]:
    """Return the parser of a finite number of seconds, or of another `quantity`, within bounds."""

    def parse(value: Any) -> float:
        try:
            number = float(value)
        except ValueError:
            raise click.BadParameter(f"{value!r} is not a number") from None
        if not math.isfinite(number) or not least <= number <= most:
            bounds = f" from {least:g} to {most:g}" if math.isfinite(most) else ""
            raise click.BadParameter(f"{value} is not a {quantity}{bounds}")
        return number

    parse.__name__ = "seconds"
    return parse


def gps(value: Any) -> float:
    """Parse GPS seconds, or a time in UTC."""
    if (found := gps_of_utc(str(value))) is not None:
        return found
    try:
        return seconds()(value)
    except click.BadParameter:
        raise click.BadParameter(f"{value!r} is neither GPS seconds nor UTC, as 2015-09-14T09:50:45Z") from None


def check_span(start: float | None, stop: float | None) -> None:
    """Raise UsageError if a span of GPS seconds does not begin before it ends; a bound that is None has no limit."""
    if start is not None and stop is not None and not start < stop:
        raise click.UsageError(f"--start {start!r} is not before --stop {stop!r}")


def parse_query(words: Sequence[str], **fields: Any) -> Query:
    """Return the query in words of the command line and options, or raise UsageError; None is no option.

    The value of an option is one, or several in a tuple.
    """
    given = {name: value if isinstance(value, tuple) else (value,) for name, value in fields.items()}
    options = [f"{name}={value}" for name, values in given.items() for value in values if value is not None]
    try:
        return parse_words([*words, *options])
    except InvalidRequest as error:
        raise click.UsageError(str(error)) from error


def bits(value: str) -> tuple[str, ...]:
    """Parse names of data-quality bits with commas between them; `none` is no bit."""
    named = tuple(part.strip().upper() for part in value.split(","))
    if named == ("NONE",):
        return ()
    if not all(re.fullmatch(r"\w+", bit) for bit in named):
        raise click.BadParameter(f"{value!r} is not a list of data-quality bits; bits are named like DATA, CBC_CAT1")
    return named


def size(value: str) -> int:
    """Parse a number of bytes, as 500MB or 2GiB."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", value.strip())
    number = float(match[1]) * _UNITS.get(match[2].upper(), math.nan) if match else math.nan
    if not math.isfinite(number):
        raise click.BadParameter(f"{value!r} is not a size; sizes are written like 500MB")
    return int(number)


def duration(value: str) -> int | None:
    """Parse a duration, as 0, 90m, 12h, 7d or forever; it is None for `forever`."""
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r}: {error}") from error


def tiers(value: str) -> tuple[str, ...]:
    """Parse names of tiers with commas between them; an empty text names none."""
    try:
        return parse_tiers(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@dataclass
class Debugging:
    """The option `--debug`: errors are shown with their traceback."""

    on: bool = False


@dataclass(frozen=True)
class Connection:
    """The gateway of a command, and the format in which its answers are printed."""

    srv: str
    tries: int
    timeout: float
    as_json: bool
    key_file: Path | None

    def client(self, on_retry: Callable[[str, float], None] | None = None) -> GlitchflowClient:
        """Return a client of the gateway, which is not open yet.

        Without `on_retry`, each retry is shown on standard error, and there are few tries without a connection.
        """
        try:
            key = read_api_key(self.key_file) if self.key_file else None
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        patient = on_retry is not None or self.tries != Retry.tries
        retry = Retry(tries=self.tries, absent=None if patient else FEW_TRIES)
        return GlitchflowClient(
            self.srv,
            retry=retry,
            timeout=self.timeout,
            on_retry=on_retry or _show_retry,
            api_key=key,
        )

    def with_few_tries(self) -> Self:
        """Return the connection of a command that reports failures; `--tries` still counts if it is given."""
        return replace(self, tries=FEW_TRIES) if self.tries == Retry.tries else self

    def call(self, question: Callable[[GlitchflowClient], Coroutine[Any, Any, T]]) -> T:
        """Return the result of a coroutine that gets an open client; SIGTERM ends it as Ctrl-C does."""

        async def work() -> T:
            _cancel_on_sigterm()
            async with self.client() as client:
                return await question(client)

        try:
            return asyncio.run(work())
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None

    def print_answer(self, answer: Any, words: str) -> None:
        """Print an answer: as JSON for programs, as text for people; an empty list is no line."""
        if self.as_json or words:
            click.echo(msgspec.json.encode(answer).decode() if self.as_json else words)


def confirmed(question: str) -> bool:
    """Ask on the terminal; return whether the answer is yes, and not if there is nobody to answer."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():  # Ctrl-C
            raise
        click.echo("", err=True)
        return False


def _cancel_on_sigterm() -> None:
    """Cancel the present task at SIGTERM."""
    if task := asyncio.current_task():
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _show_retry(reason: str, delay: float) -> None:
    click.echo(f"{reason}; trying again in {delay:.1f} s", err=True)


@dataclass(frozen=True)
class PushOptions:
    """The options of a push."""

    concurrency: int
    segment_seconds: float
    segment_samples: int | None
    wait: bool
    poll: float
    restart: bool

    @property
    def length(self) -> Length:
        """Return the length of a segment."""
        return Length(self.segment_seconds, self.segment_samples)


def _set_debugging(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # noqa: FBT001 (click calls it so)
    if value and (debugging := ctx.find_object(Debugging)):
        debugging.on = True


_CONNECTION_OPTIONS = (
    click.option(
        "--srv", type=url, envvar="SRV", default="http://127.0.0.1:8000", show_default=True, show_envvar=True,
        help="The address of the gateway; host:port is enough.",
    ),
    click.option(
        "--tries", type=click.IntRange(1, 100), default=Retry.tries,
        help="How often to try after a temporary error."
        f"  [default: {Retry.tries}; {FEW_TRIES} without a connection, and for `doctor`]",
    ),
    click.option(
        "--timeout", type=seconds(0.1, 3600), default=30.0, show_default=True, help="The timeout of one try."
    ),
    click.option(
        "--key-file", type=GivenPath(dir_okay=False, path_type=Path), envvar="GLITCHFLOW_KEY_FILE", show_envvar=True,
        help="A file with the API key, if the gateway requires one.",
    ),
    click.option(
        "--debug", is_flag=True, expose_value=False, callback=_set_debugging, help="Show the traceback of an error."
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the answer as one JSON object."),
)  # fmt: skip

_LENGTH = seconds(0.01, 64)
_PUSH_OPTIONS = (
    click.option(
        "--concurrency", type=click.IntRange(1, 256), default=16, show_default=True,
        help="Segments in flight.",
    ),
    click.option("--segment-seconds", type=_LENGTH, default=1.0, show_default=True, help="The length of a segment."),
    click.option("--segment-samples", type=click.IntRange(1, 2**20), help="The same in samples, instead of seconds."),
    click.option("--wait", is_flag=True, help="If the datastore is frozen, wait until it is open."),
    click.option(
        "--poll", type=seconds(0.05, 3600), default=3.0, show_default=True,
        help="With --wait: the time between two tries.",
    ),
    click.option("--restart", is_flag=True, help="Discard the cursor, and store all of it again."),
)  # fmt: skip


def _with_options(name: str, kind: type[Any], options: Sequence[Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        @wraps(command)  # which also hands on the options the command has so far
        def gathered(**values: Any) -> Any:
            values[name] = kind(**{each.name: values.pop(each.name) for each in fields(kind)})
            return command(**values)

        return reduce(lambda inner, option: option(inner), reversed(options), gathered)

    return decorate


def with_tiering(command: Command) -> Command:
    """Decorate a command with the options of a policy; it gets `tiering`, or None if they are not given."""

    @wraps(command)
    def gathered(**values: Any) -> Any:
        archive_to, keep_on_disk = values.pop("archive_to"), values.pop("keep_on_disk")
        if keep_on_disk is not None and archive_to is None:
            raise click.UsageError("--keep-on-disk needs --archive-to: a policy of yours has to name its tiers too")
        if keep_on_disk is not None and not archive_to:
            raise click.UsageError("--keep-on-disk needs a tier: without another tier the disk has the only copy")
        tiering = None if archive_to is None else Tiering(archive_to, keep_on_disk)
        return command(tiering=tiering, **values)

    for option in (
        click.option(
            "--keep-on-disk", type=duration,
            help="With --archive-to, how long the disk keeps a batch: 0, 90m, 12h, 7d or forever.  [default: forever]",
        ),
        click.option(
            "--archive-to", type=tiers,
            help="Tiers to copy to, as object,tape; empty: none.  [default: the datastore's own policy, as a whole]",
        ),
    ):  # fmt: skip
        gathered = option(gathered)
    return gathered


with_query = click.option(
    "--query", multiple=True,
    help="A field, as detector=L1, or a condition, as temperature<0.02; with several, all have to match.",
)  # fmt: skip
with_connection = _with_options("connection", Connection, _CONNECTION_OPTIONS)
with_push_options = _with_options("options", PushOptions, _PUSH_OPTIONS)

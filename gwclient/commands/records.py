"""Commands on records and steps: `record`, `records`, `changes`, `steps`, `redo`, `forget`."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import wraps
from typing import Any

import click
import msgspec

from gwclient.client import GlitchflowClient
from gwclient.commands.options import Command, Connection, StrictCommand, name, parse_query, with_connection, with_query
from gwwire.decoding import parse_value
from gwwire.names import printable
from gwwire.problems import ProblemError
from gwwire.query import grouped
from gwwire.records import Mark, Record, RecordPatch, Step, StepOverview

#: Characters of the columns of a list of records; what is longer moves the rest of its row.
_WIDTHS = (36, 8, 8, 12, 0)


def _with_filters(command: Command) -> Command:
    @wraps(command)
    def gathered(**values: Any) -> Any:
        fields = {name: values.pop(name) for name in ("status", "run", "last")}
        filters = grouped(parse_query(values.pop("query"), **fields))
        own = {name: values.pop(name) for name in ("kind", "segments")}
        return command(filters={**own, **filters}, **values)

    for option in (
        with_query,
        click.option(
            "--segments",
            type=click.Choice(["all", "written"]),
            default="all",
            show_default=True,
            help="`written`: without segments that nobody has written to.",
        ),
        click.option("--last", type=name, help="Only records on which this step was done last."),
        click.option("--run", type=name, help="Only records of this run."),
        click.option("--status", type=name, help="Only records with this status."),
        click.option("--kind", type=name, help="Only records of this kind, the first part of the id."),
    ):
        gathered = option(gathered)
    return gathered


@click.command(cls=StrictCommand)
@click.argument("record")
@click.option("--set", "values", multiple=True, metavar="NAME=VALUE", help="Set a condition; null removes it.")
@click.option("--status", help="Set the status: good, or what went wrong.")
@click.option("--run", help="Set the run.")
@with_connection
def record(record: str, values: tuple[str, ...], status: str | None, run: str | None, connection: Connection) -> None:
    """Show a record, or change it; the id of a batch alone names the record of that batch.

    A condition has a dotted name, as volts.detector_a; its value is JSON, or else text.

    \b
    Examples:
      gwclient record file/ma22a000_000
      gwclient record file/ma22a000_000 --set temperature=0.018 --status good
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    record = _full_id(record)
    given: dict[str, Any] = {"status": status, "run": run, "conditions": _nested(values) or None}
    changes = {name: value for name, value in given.items() if value is not None}

    async def work(client: GlitchflowClient) -> Record:
        return await (client.records.patch(record, RecordPatch(**changes)) if changes else client.records.get(record))

    _print_record(connection.call(work), connection)


@click.command(cls=StrictCommand)
@_with_filters
@with_connection
def records(filters: dict[str, Any], connection: Connection) -> None:
    """List records, in the order of their last changes; with --json, one JSON object a line.

    \b
    Examples:
      gwclient records --kind file --query detector=L1 --query 'temperature<0.02'
      gwclient records --segments written
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    _print_lines(connection, lambda client: client.records.find(page=1000, **filters))


@click.command(cls=StrictCommand)
@click.option("--since", type=click.IntRange(0), default=0, help="Only changes after this seq.")
@click.option("--follow", is_flag=True, help="Wait for more changes, until Ctrl-C.")
@_with_filters
@with_connection
def changes(since: int, follow: bool, filters: dict[str, Any], connection: Connection) -> None:  # noqa: FBT001 (click calls it by name)
    """List records as they change, each in its latest version.

    With --json, one JSON object a line; continue with --since and the last seq to miss nothing. An object with nothing
    but a seq says that no other change up to it matches.

    Example: gwclient changes --follow --kind file
    """
    _print_lines(connection, lambda client: client.records.changes(since=since, follow=follow, **filters))


@click.command(cls=StrictCommand)
@with_connection
def steps(connection: Connection) -> None:
    """List all steps with the number of records that wait, run, are done and failed.

    The newest 20 failed records of each step follow it, with the reason.

    Example: gwclient steps
    """
    answer = connection.call(lambda client: client.records.steps())
    connection.print_answer({"steps": answer}, "\n".join(map(_overview_text, answer)))


@click.command(cls=StrictCommand)
@click.argument("record")
@click.argument("step")
@with_connection
def redo(record: str, step: str, connection: Connection) -> None:
    """Reopen a step of a record, and the steps that depend on it: they are done again.

    The id of a batch alone names the record of that batch.

    \b
    Examples:
      gwclient redo file/ma22a000_000 move_to_sps
      gwclient redo b1795224029597668971 verify
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    _print_record(connection.call(lambda client: client.records.redo(_full_id(record), step)), connection)


@click.command(cls=StrictCommand)
@click.argument("step")
@with_connection
def forget(step: str, connection: Connection) -> None:
    """Remove a step that nobody performs any more, and list the others.

    Records keep what was done, and also that they wait for the step: a listener that declares it again performs it on
    them. One that still runs does so at once.

    Example: gwclient forget move_to_sps
    """
    answer = connection.call(lambda client: client.records.forget(step))
    if not connection.as_json:
        later = [each.name for each in answer if step in each.after]
        after = f", and no more records reach {', '.join(later)}" if later else ""
        click.echo(f"{step} is removed: its records stay WAITING until a listener declares it again{after}", err=True)
    connection.print_answer({"steps": answer}, "\n".join(map(_overview_text, answer)))


def one_line(reason: str) -> str:
    """Return the lines of a reason as one line for people."""
    return printable("; ".join(reason.splitlines()))


def _full_id(record: str) -> str:
    """Return the id of a record; one without a kind is that of a batch."""
    if not record or record.endswith("/"):
        raise click.BadParameter(f"{record!r} has no name; an id is KIND/NAME, or that of a batch")
    return record if "/" in record else f"batch/{record}"


def _nested(values: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--set")
        *above, last = name.split(".")
        inner = found
        for part in above:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise click.BadParameter(f"{name} is inside of a value that is set too", param_hint="--set")
        if last in inner:
            raise click.BadParameter(f"{name} is set twice", param_hint="--set")
        try:
            inner[last] = parse_value(value)
        except ProblemError as error:
            raise click.BadParameter(f"{name}: {error.detail}", param_hint="--set") from None
        except msgspec.DecodeError:
            inner[last] = value
    return found


def _print_lines(connection: Connection, question: Callable[[GlitchflowClient], AsyncGenerator[Any, None]]) -> None:
    """Print answers as they come: JSON objects, or a table of records."""

    async def work() -> None:
        headed = False
        async with connection.client() as client, aclosing(question(client)) as answers:
            async for each in answers:
                if connection.as_json:
                    click.echo(msgspec.json.encode(each))
                elif not isinstance(each, Mark):
                    if not headed:
                        click.echo(_row("RECORD", "STATUS", "RUN", "LAST STEP", "SEQ"))
                        headed = True
                    click.echo(_row(each.id, printable(each.status), each.run or "-", each.last or "-", str(each.seq)))

    asyncio.run(work())


def _row(*cells: str) -> str:
    """Return a row of a table whose later rows are not known yet."""
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, _WIDTHS, strict=True)).rstrip()


def _print_record(record: Record, connection: Connection) -> None:
    run = f"run {record.run}" if record.run else "-"
    lines = [f"{record.id}  {printable(record.status)}  {run}  last {record.last or '-'}  seq {record.seq}"]
    if record.conditions:
        lines.append(f"  {msgspec.json.encode(record.conditions).decode()}")
    connection.print_answer(record, "\n".join([*lines, *map(_step_text, record.steps)]))


def _step_text(step: Step) -> str:
    attempt = f", attempt {step.attempt} by {step.worker}" if step.worker else ""
    reason = f": {one_line(step.reason)}" if step.reason else ""
    result = "" if step.result is None else f"  {msgspec.json.encode(step.result).decode()}"
    return f"  {step.name}  {step.state}{attempt}{reason}{result}"


def _overview_text(step: StepOverview) -> str:
    after = f" after {', '.join(step.after)}" if step.after else ""
    counts = f"{step.waiting:,} waiting, {step.running:,} running, {step.done:,} done, {step.failed:,} failed"
    workers = f" ({', '.join(step.workers)})" if step.workers else ""
    failed = [f"  FAILED  {each.record}: {one_line(each.reason)}" for each in step.failures]
    more = [f"  and {step.failed - len(failed):,} more"] if failed and step.failed > len(failed) else []
    return "\n".join([f"{step.name}{after}  {counts}{workers}", *failed, *more])

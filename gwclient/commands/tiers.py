"""Commands on tiers: `tiers`, and the group `tier` with `plan` and `apply`."""

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import click

from gwclient.amounts import bytes_text, count_text
from gwclient.client import GlitchflowClient
from gwclient.commands.options import (
    Command,
    Connection,
    StrictCommand,
    confirmed,
    name,
    seconds,
    size,
    with_connection,
    with_tiering,
)
from gwclient.commands.records import one_line
from gwclient.errors import NOT_ACKNOWLEDGED, NotAsExpected
from gwclient.tiering import Estimate, estimates, unfinished
from gwwire.tiering import DISK, MOST_BATCHES, Move, Tiering, TieringPlan, TierOverview, WaitingRecall, duration_text

#: Moves that are shown one by one.
_MOST_SHOWN = 200
#: Kinds of tiers in words; a folder is another disk, and named apart from the tier `disk`.
_KINDS = {"disk": "folder", "object": "object store"}
_TIMES = ((86_400, "d"), (3600, "h"), (60, "min"))


def price(value: str) -> tuple[str, float]:
    """Parse the price of a GB and month in a tier."""
    tier, _, number = value.partition("=")
    try:
        amount = float(number)
    except ValueError:
        amount = -1.0
    if not tier or not 0 <= amount < float("inf"):
        raise click.BadParameter(f"{value!r} is not TIER=PRICE, such as object=0.023")
    return tier, amount


def _with_estimates(command: Command) -> Command:
    @wraps(command)
    def gathered(**values: Any) -> Any:
        rate, prices = values.pop("rate"), dict(values.pop("prices"))
        return command(estimate=lambda plan: estimates(plan, rate, prices), **values)

    for option in (
        click.option(
            "--price", "prices", type=price, multiple=True, metavar="TIER=PRICE",
            help="The price of a GB for a month in a tier; for several tiers, several times.",
        ),
        click.option(
            "--rate", type=size, help="Bytes that a tier takes each second, as 100MB.  [default: of the copies so far]"
        ),
    ):  # fmt: skip
        gathered = option(gathered)
    return gathered


@click.command(cls=StrictCommand)
@with_connection
def tiers(connection: Connection) -> None:
    """List the tiers: what each can hold and holds, and what waits for it; and the recalls that wait.

    Example: gwclient tiers
    """
    answer = connection.call(lambda client: client.tiers())
    connection.print_answer(answer, "\n".join([*tier_lines(answer.tiers), *map(_recall_text, answer.recalls)]))


@click.group(invoke_without_command=True)
@click.pass_context
def tier(context: click.Context) -> None:
    """Plan and apply a policy of tiers for archived batches.

    \b
    Examples:
      gwclient tier plan --archive-to object,tape --keep-on-disk 7d
      gwclient tier apply --archive-to object,tape --keep-on-disk 7d --wait
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@tier.command(cls=StrictCommand)
@click.argument("batches", nargs=-1, type=name)
@with_tiering
@_with_estimates
@with_connection
def plan(
    batches: tuple[str, ...],
    tiering: Tiering | None,
    estimate: Callable[[TieringPlan], list[Estimate]],
    connection: Connection,
) -> None:
    """Show what a policy would move; change nothing.

    Without BATCHES, all archived batches are compared; without a policy, with that of the datastore.

    \b
    Examples:
      gwclient tier plan
      gwclient tier plan --archive-to object,tape --keep-on-disk 7d --price object=0.023 --price tape=0.004
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)
    found = connection.call(lambda client: client.plan_tiering(tiering, batches))
    costs = estimate(found)
    connection.print_answer(
        {"plan": found, "estimates": costs}, "\n".join(plan_lines(found, costs, of_settings=tiering is None))
    )


@tier.command(cls=StrictCommand)
@click.argument("batches", nargs=-1, type=name)
@with_tiering
@_with_estimates
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--wait", is_flag=True, help="Wait until every move is made that can be made now.")
@click.option(
    "--poll", type=seconds(0.05, 3600), default=2.0, show_default=True, help="With --wait: the time between two looks."
)
@with_connection
def apply(  # noqa: PLR0913, PLR0917 (one for each option)
    batches: tuple[str, ...],
    tiering: Tiering | None,
    estimate: Callable[[TieringPlan], list[Estimate]],
    yes: bool,  # noqa: FBT001 (click calls it by name)
    wait: bool,  # noqa: FBT001 (click calls it by name)
    poll: float,
    connection: Connection,
) -> None:
    """Set the policy of archived batches, after showing what it moves.

    The datastore makes the moves itself; with --wait, the command shows their progress, and the exit code is 1 if one
    failed or cannot be made. A batch leaves the disk only when every tier of the policy has a verified copy.

    \b
    Examples:
      gwclient tier apply --archive-to object,tape --keep-on-disk 7d
      gwclient tier apply --yes --wait b1795224029597668971
    """  # noqa: D301 (\b is click's mark: keep the lines as they are)

    async def work(client: GlitchflowClient) -> TieringPlan:
        found = await client.plan_tiering(tiering, batches)
        _say("\n".join(plan_lines(found, estimate(found), of_settings=tiering is None)))
        if not found.batches:
            return found
        question = f"Apply this policy to {count_text(len(found.batches), 'batch', 'batches')}?"
        if not yes and not confirmed(question):
            raise NotAsExpected("nothing was changed; --yes answers for scripts")
        for portion in _portions(found.batches):
            await client.apply_tiering(found.tiering, portion)
        return await (_until_made(client, found, poll) if wait else _plan_again(client, found.tiering, found.batches))

    left = connection.call(work)
    now, later, failed = unfinished(left)
    problems = [*map(_failure_text, failed), *_blocked_lines(left)]
    words = [f"policy set for {count_text(len(left.batches), 'batch', 'batches')}"] if left.batches else []
    words += problems
    if not wait and now:
        words.append(f"{count_text(len(now), 'move')} begun; gwclient steps shows their progress")
    elif not now and not problems:
        words.append("every move is made" + (f"; later: {count_text(len(later), 'move')}" if later else ""))
    connection.print_answer({"plan": left}, "\n".join(words))
    if failed or left.blocked:
        sys.exit(NOT_ACKNOWLEDGED)


async def _until_made(client: GlitchflowClient, begun: TieringPlan, poll: float) -> TieringPlan:
    """Wait until no move can be made now, and return what is left then."""
    first, printed = len(unfinished(begun)[0]), ""
    while True:
        left = await _plan_again(client, begun.tiering, begun.batches)
        now = unfinished(left)[0]
        if first and (words := _progress_text(first, now)) != printed:
            printed = words
            _say(words)
        if not now:
            return left
        await asyncio.sleep(poll)


async def _plan_again(client: GlitchflowClient, tiering: Tiering, batches: Sequence[str]) -> TieringPlan:
    plans = [await client.plan_tiering(tiering, portion) for portion in _portions(batches)]
    return TieringPlan(
        plans[0].time,
        tiering,
        [batch for each in plans for batch in each.batches],
        [move for each in plans for move in each.moves],
        [blocked for each in plans for blocked in each.blocked],
        [],
        plans[0].rates,
    )


def _portions(batches: Sequence[str]) -> Iterator[Sequence[str]]:
    return (batches[at : at + MOST_BATCHES] for at in range(0, len(batches), MOST_BATCHES))


def _say(words: str) -> None:
    click.echo(words, err=True)


def plan_lines(plan: TieringPlan, costs: Sequence[Estimate], *, of_settings: bool) -> list[str]:
    """Return a plan as a table, under its policy, which is that of the command or `of_settings` of dslogic."""
    copies = ", ".join(plan.tiering.archive_to) or "no other tier"
    policy = "policy of the settings (batches may have others)" if of_settings else "policy"
    lines = [f"{policy}: copies in {copies}; {_kept_text(plan.tiering)}"]
    lines += _table([_row(move) for move in plan.moves[:_MOST_SHOWN]])
    if (more := len(plan.moves) - _MOST_SHOWN) > 0:
        lines.append(f"and {more:,} more moves")
    lines += _blocked_lines(plan)
    if plan.evictions:
        size = bytes_text(sum(move.bytes for move in plan.evictions))
        packs = f"{count_text(len(plan.evictions), 'pack')}, {size}"
        lines.append(f"OBJECT_HIGH_WATER lets {packs}, leave the object store:")
        lines += _table([(move.batch, move.step, bytes_text(move.bytes)) for move in plan.evictions[:_MOST_SHOWN]])
    lines += map(_estimate_text, costs)
    if not plan.moves:
        lines.append(f"nothing moves by this policy: {count_text(len(plan.batches), 'batch', 'batches')} compared")
    return lines


def _kept_text(tiering: Tiering) -> str:
    match tiering.keep_on_disk:
        case None:
            return "the disk keeps them forever"
        case 0:
            return "the disk does not keep them"
        case kept:
            return f"the disk keeps them for {duration_text(kept)}"


def _row(move: Move) -> tuple[str, ...]:
    when = "now" if move.due is None else time_text(move.due)
    after = f"after {', '.join(move.after)}" if move.after else ""
    reason = f"{move.state}: {one_line(move.reason)}" if move.reason else str(move.state)
    return move.batch, move.step, bytes_text(move.bytes), when, reason, after


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _blocked_lines(plan: TieringPlan) -> list[str]:
    return [f"{each.batch}  {each.step} cannot be made: {each.reason}" for each in plan.blocked]


def _failure_text(move: Move) -> str:
    again = f"gwclient redo batch/{move.batch} {move.step}"
    return f"{move.batch}  {move.step} FAILED: {one_line(move.reason or '')}; to try again: {again}"


def _estimate_text(cost: Estimate) -> str:
    parts = [count_text(cost.batches, "batch", "batches"), bytes_text(cost.bytes)]
    if cost.seconds is not None:
        parts.append(f"about {_span_text(cost.seconds)}")
    if cost.per_month is not None:
        parts.append(f"{cost.per_month:+,.4g} a month")
    return f"{cost.step}: {', '.join(parts)}"


def _progress_text(first: int, now: Sequence[Move]) -> str:
    size = bytes_text(sum(move.bytes for move in now))
    return f"{max(first - len(now), 0):,} of {count_text(max(first, len(now)), 'move')} made, {size} to go"


def tier_lines(tiers: Sequence[TierOverview]) -> list[str]:
    """Return a table of tiers."""
    return _table([("TIER", "KIND", "USED", "VERIFIED PACKS"), *map(_tier_row, tiers)])


def _recall_text(recall: WaitingRecall) -> str:
    reason = f", {one_line(recall.reason)}" if recall.reason else ""
    return f"recall of {recall.batch} waits since {time_text(recall.since)}{reason}"


def _tier_row(tier: TierOverview) -> tuple[str, ...]:
    total = "" if tier.total is None else f" of {bytes_text(tier.total)}"
    held = "unknown" if tier.used is None else f"{bytes_text(tier.used)}{total}"
    kind = "volume" if tier.name == DISK else _KINDS.get(tier.kind, tier.kind) if tier.in_tiers else "not in TIERS"
    packs = count_text(tier.replicas, "pack")
    unreadable = f", {tier.unreadable:,} CANNOT BE READ: no tier of TIERS has them" if tier.unreadable else ""
    queue = f", {tier.queue:,} queued" if tier.queue else ""
    missing = f", {tier.missing:,} missing" if tier.missing and tier.in_tiers else ""
    lost = f", {tier.lost:,} lost" if tier.lost else ""
    quota = _quota_text(tier.quota, tier.quota_used)
    error = f", last error: {one_line(tier.error)}" if tier.error else ""
    return tier.name, kind, held, f"{packs}, {bytes_text(tier.bytes)}{unreadable}{queue}{missing}{lost}{quota}{error}"


def _quota_text(quota: int | None, used: int | None) -> str:
    if quota is None:
        return ""
    mine = "" if used is None else f", of which yours uses {bytes_text(used)}"
    return f", quota of a group {bytes_text(quota)}{mine}"


def _span_text(span: float) -> str:
    unit, name = next(((unit, name) for unit, name in _TIMES if span >= unit), (1, "s"))
    return f"{span / unit:.1f} {name}"


def time_text(time: float) -> str:
    """Return a Unix time as UTC, to the minute."""
    return f"{datetime.fromtimestamp(time, UTC):%Y-%m-%d %H:%M} UTC"

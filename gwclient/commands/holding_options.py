"""The options of the commands on holdings, as NLDS has them."""

from collections.abc import Sequence
from functools import reduce, wraps
from typing import Any

import click

from gwclient.client import GlitchflowClient
from gwclient.commands.options import Command, name
from gwclient.errors import NotAsExpected
from gwwire.decoding import InvalidRequest
from gwwire.holdings import Holding, parse_tags


def tags(value: str) -> dict[str, str]:
    """Parse tags, as site:LLO,run:O4a."""
    try:
        return parse_tags(value)
    except InvalidRequest as error:
        raise click.BadParameter(f"{value!r}: {error.detail.removeprefix('tag: ')}") from None


def tag_text(given: dict[str, str] | None) -> str | None:
    """Return tags as the routes take them."""
    return ",".join(f"{name}:{value}" for name, value in given.items()) if given else None


def _with(options: Sequence[Command]) -> Command:
    def decorate(command: Command) -> Command:
        return reduce(lambda inner, option: option(inner), reversed(options), command)

    return decorate


with_holding = _with((
    click.option("-l", "--label", type=name, help="The label of the holding."),
    click.option("-i", "--holding-id", "holding", type=click.IntRange(1), help="The id of the holding."),
    click.option("-t", "--tag", "tagged", type=tags, help="Tags of the holding, NAME:VALUE with commas between them."),
))  # fmt: skip
with_owner = _with((
    click.option("-u", "--user", type=name, help="Only of this user."),
    click.option("-g", "--group", type=name, help="Only of this group."),
))  # fmt: skip


def with_order(command: Command) -> Command:
    """Decorate a command that lists something; it gets `page`, with `limit` and `descending`."""

    @wraps(command)
    def gathered(**values: Any) -> Any:
        page = {name: values.pop(name) for name in ("limit", "descending")}
        return command(page=page, **values)

    for option in (
        click.option(
            "-9/-0", "--descending/--ascending", "descending", default=False, help="The newest first or last."
        ),
        click.option("-L", "--limit", type=click.IntRange(1), help="How many are shown.  [default: all]"),
    ):
        gathered = option(gathered)
    return gathered


async def find_holdings(
    client: GlitchflowClient, holding: int | None, tagged: dict[str, str] | None, label: str | None = None, **more: Any
) -> list[Holding]:
    """Return the holdings that filters select; `holding` is the id of the only one, which has to match them too.

    Raise NotAsExpected if there is no holding with the label.
    """
    if holding is None:
        matching = [each async for each in client.holdings.holdings(label=label, tag=tag_text(tagged), **more)]
        if label is not None and not matching:
            raise NotAsExpected(f"there is no such holding: {label!r}")
        return matching
    found = await client.holdings.holding(holding)
    if label not in {None, found.label} or not (tagged or {}).items() <= found.tags.items():
        there = f"the label {found.label!r} and the tags {tag_text(found.tags) or '-'}"
        raise NotAsExpected(f"holding {holding} has {there}")
    return [found]

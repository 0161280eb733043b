"""`gwclient doctor`: check the way to the datastore."""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from enum import StrEnum
from http import HTTPStatus
from importlib.metadata import version
from importlib.util import find_spec
from typing import NamedTuple

import click

from gwclient.amounts import bytes_text, count_text
from gwclient.client import GlitchflowClient
from gwclient.commands.options import Connection, StrictCommand, with_connection
from gwclient.commands.records import one_line
from gwclient.connection import read_success
from gwclient.cursor import state_folder
from gwclient.errors import (
    NOT_ACKNOWLEDGED,
    UNREACHABLE,
    GatewayError,
    GatewayRefused,
    GatewayUnavailable,
    Redirected,
    UnexpectedAnswer,
)
from gwwire.problems import ProblemCode
from gwwire.tiering import TierOverview, Tiers

#: s that the clocks may differ.
_CLOCK_S = 5.0
#: The routes that only one of the services has.
_SERVICES = {"/stats": "gateway", "/bufstat": "dslogic", "/stat": "databuffer"}


class Verdict(StrEnum):
    """The result of a check."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


class Finding(NamedTuple):
    """One check, and in a line its result and what to do."""

    check: str
    verdict: Verdict
    words: str


@click.command(cls=StrictCommand)
@with_connection
def doctor(connection: Connection) -> None:
    """Find out why something does not work.

    Check address, versions, authorization, clock and readiness of the gateway, and the state of this machine.

    Example: gwclient doctor --srv gateway:8000
    """
    findings = asyncio.run(_examine(connection))
    words = "\n".join(f"{finding.verdict:5} {finding.check}: {finding.words}" for finding in findings)
    connection.print_answer([finding._asdict() for finding in findings], words)
    if wrong := {finding.check for finding in findings if finding.verdict is Verdict.WRONG}:
        sys.exit(UNREACHABLE if "address" in wrong else NOT_ACKNOWLEDGED)


async def _examine(connection: Connection) -> list[Finding]:
    own = f"gwclient {version('glitchflow-datastore')}, Python {sys.version.split()[0]}"
    if find_spec("gwframe"):
        frames = Finding("frames", Verdict.OK, "GWF frames can be read")
    else:
        missing = "GWF frames cannot be read; the extra glitchflow-datastore[frames] is missing"
        frames = Finding("frames", Verdict.NOTE, missing)
    async with connection.with_few_tries().client() as client:
        gateway = [each async for each in _examine_gateway(client)]
    return [Finding("client", Verdict.OK, own), frames, _check_state_folder(), *gateway]


async def _examine_gateway(client: GlitchflowClient) -> AsyncIterator[Finding]:
    about, unknown = None, ""
    try:
        about = await client.about()
    except Redirected as error:
        yield Finding("address", Verdict.WRONG, str(error))
        return
    except (GatewayRefused, UnexpectedAnswer) as error:
        unknown = str(error)
    except GatewayUnavailable as error:
        more = "check what is in front of it" if error.connected else "start it"
        yield Finding("address", Verdict.WRONG, f"{error}; name another with --srv or SRV, or {more}")
        return
    if about is not None and (why := await _who_hangs(client)):  # the other questions would wait for it too
        yield Finding("address", Verdict.OK, f"a gateway answers at {client.base_url}")
        yield Finding("readiness", Verdict.WRONG, why)
        return
    if other := await _other_service(client, described=about is not None):
        words = f"{other} answers at {client.base_url}; name the gateway's address with --srv or SRV"
        yield Finding("address", Verdict.WRONG, words)
        return
    if about is None:
        yield Finding("address", Verdict.NOTE, f"{client.base_url} does not describe itself: {unknown}")
    else:
        yield Finding("address", Verdict.OK, f"a gateway answers at {client.base_url}")
        yield _compare_versions(about.version)
        yield _compare_clocks(about.time)
    yield await _ask_permission(client)
    async for finding in _examine_services(client):
        yield finding


async def _examine_services(client: GlitchflowClient) -> AsyncIterator[Finding]:
    try:
        why = (await client.ready()).cannot_store
        if why:
            yield Finding("readiness", Verdict.WRONG, f"the buffer cannot store segments: {why}")
        else:
            yield Finding("readiness", Verdict.OK, "every service is ready")
    except GatewayError as error:
        yield Finding("readiness", Verdict.WRONG, str(error))
    try:
        if await client.takes_many():
            yield Finding("streaming", Verdict.OK, "takes many segments in one request")
        else:
            yield Finding("streaming", Verdict.NOTE, "takes one segment in a request")
    except GatewayError as error:
        yield Finding("streaming", Verdict.WRONG, str(error))
    async for finding in _examine_tiers(client):
        yield finding


async def _examine_tiers(client: GlitchflowClient) -> AsyncIterator[Finding]:
    """Name tiers that fail or that TIERS lacks, recalls that wait, and how many archives the datastore leaves out.

    There are none if a route is missing.
    """
    try:
        for finding in tier_findings(await client.tiers()):
            yield finding
        left_out = (await client.overview()).left_out
    except GatewayError:
        return
    if left_out:
        yield Finding("archives", Verdict.WRONG, _left_out_text(left_out))


def _left_out_text(number: int) -> str:
    """Return how many archives and packs of files are left out, and what helps."""
    named = count_text(number, "archive or pack of files is", "archives or packs of files are")
    return f"{named} left out, because the manifest cannot be read; the log of the buffer names each"


def tier_findings(found: Tiers) -> Iterator[Finding]:
    """Yield the findings about the tiers and the recalls that wait; none if there is only the disk."""
    failing = [tier for tier in found.tiers if tier.error]
    for tier in failing:
        yield Finding("tiers", Verdict.NOTE, f"{tier.name} fails, copies to it wait: {one_line(tier.error or '')}")
    for recall in found.recalls:
        if recall.reason:
            yield Finding("tiers", Verdict.NOTE, f"the recall of {recall.batch} waits: {one_line(recall.reason)}")
    yield from (_of_unknown(tier) for tier in found.tiers if not tier.in_tiers)
    named = [tier.name for tier in found.tiers if tier.in_tiers]
    if not failing and len(named) > 1:
        yield Finding("tiers", Verdict.OK, f"{', '.join(named)} answer")


def _of_unknown(tier: TierOverview) -> Finding:
    """Return the finding about a tier that TIERS does not name, though it has packs or policies name it."""
    if tier.unreadable:
        packs = count_text(tier.replicas, "pack")
        only = f"{tier.unreadable} of its {packs} cannot be read, because they are nowhere else"
        return Finding("tiers", Verdict.WRONG, f"TIERS does not name {tier.name}: {only}")
    packs = f": its {count_text(tier.replicas, 'pack counts', 'packs count')} for nothing" if tier.replicas else ""
    batches = count_text(tier.missing, "batch has", "batches have")
    named = f"; {batches} it in the policy" if tier.missing else ""
    words = f"TIERS does not name {tier.name}{packs}{named}"
    return Finding("tiers", Verdict.NOTE, words)


async def _who_hangs(client: GlitchflowClient) -> str | None:
    """Return which service behind the gateway does not answer in time, or None; asked once."""
    try:
        async with client.request("GET", "/readyz") as response:
            await read_success(response)
    except GatewayUnavailable as error:
        return str(error) if error.code == ProblemCode.UPSTREAM_TIMEOUT else None
    except GatewayError:
        return None
    return None


async def _other_service(client: GlitchflowClient, *, described: bool) -> str | None:
    """Return which service answers if it is no gateway, or None; a gateway is `described` to everybody."""
    try:
        services = [service for path, service in _SERVICES.items() if await client.serves(path)]
    except GatewayError as error:
        return f"no gateway ({error})"
    if len(services) == 1:
        return None if services[0] == "gateway" else f"{services[0]}, not a gateway,"
    return None if services and described else "no service of the datastore"


def _check_state_folder() -> Finding:
    folder = state_folder(os.environ)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding("cursors", Verdict.WRONG, f"{folder} cannot be written ({error.strerror}); set XDG_STATE_HOME")
    return Finding("cursors", Verdict.OK, f"kept in {folder}")


def _compare_versions(theirs: str) -> Finding:
    own = version("glitchflow-datastore")
    if theirs == own:
        return Finding("version", Verdict.OK, f"the gateway is {theirs} too")
    return Finding("version", Verdict.NOTE, f"the gateway is {theirs}, this client {own}")


def _compare_clocks(theirs: float | None) -> Finding:
    if theirs is None:
        return Finding("clock", Verdict.NOTE, "the gateway sends no time")
    apart = time.time() - theirs
    if abs(apart) <= _CLOCK_S:
        return Finding("clock", Verdict.OK, f"no more than {_CLOCK_S:g} s apart")
    ahead = "ahead of" if apart > 0 else "behind"
    words = f"this machine is {abs(apart):.0f} s {ahead} the gateway; set the clocks right"
    return Finding("clock", Verdict.WRONG, words)


async def _ask_permission(client: GlitchflowClient) -> Finding:
    try:
        who = await client.whoami()
    except GatewayError:  # a gateway that does not know the question
        return await _ask_to_read(client, "may read")
    allowed = f"{who.name} may {', '.join(who.scopes)}" if who.name else "everybody may do everything"
    nobody = who.auth != "off" and who.name is None
    if nobody or "read" in who.scopes:
        return await _ask_to_read(client, allowed)  # the answer to a caller without a key has the reason
    return Finding("authorization", Verdict.OK, allowed)


async def _ask_to_read(client: GlitchflowClient, allowed: str) -> Finding:
    try:
        stats, state = await client.stats(), await client.desc()
    except GatewayError as error:
        if isinstance(error, GatewayRefused) and error.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            advice = "give a key that is valid with --key-file or GLITCHFLOW_KEY_FILE"
            return Finding("authorization", Verdict.WRONG, f"{error}; {advice}")
        return Finding("counts", Verdict.WRONG, str(error))
    counts = f"{state.resp}, {count_text(stats.n_itm, 'segment')}, {bytes_text(stats.buff_size)}"
    return Finding("authorization", Verdict.OK, f"{allowed}: {counts}")

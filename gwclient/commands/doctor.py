"""`gwclient doctor`: check the way to the datastore."""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from enum import StrEnum
from importlib.metadata import version
from importlib.util import find_spec
from typing import NamedTuple

import click

from gwclient.client import GlitchflowClient
from gwclient.commands.console import print_answer
from gwclient.cursor import state_folder
from gwclient.errors import GatewayError, GatewayRefused, GatewayUnavailable
from gwclient.exits import EXIT_CODES, NOT_ACKNOWLEDGED, UNREACHABLE
from gwclient.options import Connection, with_connection

#: s that the clocks may differ.
_CLOCK_S = 5.0
_UNAUTHORIZED, _FORBIDDEN = 401, 403
_READ = "read"
_A_KEY = "give a key that is valid with --key-file or GLITCHFLOW_KEY_FILE"


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


@click.command(epilog=EXIT_CODES)
@with_connection
def doctor(connection: Connection) -> None:
    """Check address, versions, authorization, clock and readiness of the gateway, and this machine's own side.

    Example: gwclient doctor --srv gateway:8000
    """
    findings = asyncio.run(_examine(connection))
    words = "\n".join(f"{finding.verdict:5} {finding.check}: {finding.words}" for finding in findings)
    print_answer(connection, [finding._asdict() for finding in findings], words)
    if any(finding.verdict is Verdict.WRONG for finding in findings):
        away = any(finding.check == "address" and finding.verdict is Verdict.WRONG for finding in findings)
        sys.exit(UNREACHABLE if away else NOT_ACKNOWLEDGED)


async def _examine(connection: Connection) -> list[Finding]:
    findings = [_own_version(), _frames(), _state_folder()]
    async with connection.client() as client:
        findings += [each async for each in _examine_gateway(client)]
    return findings


async def _examine_gateway(client: GlitchflowClient) -> AsyncIterator[Finding]:
    try:
        about = await client.about()
    except GatewayUnavailable as error:
        yield Finding("address", Verdict.WRONG, f"{error}; name another with --srv or SRV, or start it")
        return
    except GatewayError as error:
        yield Finding("address", Verdict.NOTE, f"{client.base_url} does not describe itself: {error}")
        about = None
    if about is not None:
        yield Finding("address", Verdict.OK, f"a gateway answers at {client.base_url}")
        yield _compare_versions(about.version)
        yield _compare_clocks(about.time)
    yield await _ask_permission(client)
    yield await _ask_readiness(client)
    yield await _ask_ndjson(client)


def _own_version() -> Finding:
    return Finding("client", Verdict.OK, f"gwclient {version('glitchflow-datastore')}, Python {sys.version.split()[0]}")


def _frames() -> Finding:
    if find_spec("gwframe"):
        return Finding("frames", Verdict.OK, "GWF frames can be read")
    return Finding(
        "frames", Verdict.NOTE, "GWF frames cannot be read; the extra glitchflow-datastore[frames] is missing"
    )


def _state_folder() -> Finding:
    folder = state_folder(os.environ)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding("cursors", Verdict.WRONG, f"{folder} cannot be written ({error.strerror}); set XDG_STATE_HOME")
    return Finding("cursors", Verdict.OK, f"kept in {folder}")


def _compare_versions(told: str) -> Finding:
    own = version("glitchflow-datastore")
    if told == own:
        return Finding("version", Verdict.OK, f"the gateway is {told} too")
    return Finding("version", Verdict.NOTE, f"the gateway is {told}, this client {own}")


def _compare_clocks(told: float | None) -> Finding:
    if told is None:
        return Finding("clock", Verdict.NOTE, "the gateway does not tell the time")
    apart = time.time() - told
    if abs(apart) <= _CLOCK_S:
        return Finding("clock", Verdict.OK, f"no more than {_CLOCK_S:g} s apart")
    ahead = "ahead of" if apart > 0 else "behind"
    return Finding(
        "clock", Verdict.WRONG, f"this machine is {abs(apart):.0f} s {ahead} the gateway; set the clocks right"
    )


async def _ask_permission(client: GlitchflowClient) -> Finding:
    try:
        who = await client.whoami()
    except GatewayError:  # a gateway that does not know the question
        return await _ask_to_read(client, "may read")
    allowed = f"{who.name} may {', '.join(who.scopes)}" if who.name else "everybody may do everything"
    nobody = who.auth != "off" and who.name is None
    if nobody or _READ in who.scopes:
        return await _ask_to_read(client, allowed)  # which tells nobody why
    return Finding("authorization", Verdict.OK, allowed)


async def _ask_to_read(client: GlitchflowClient, allowed: str) -> Finding:
    try:
        stats, state = await client.stats(), await client.desc()
    except GatewayError as error:
        if isinstance(error, GatewayRefused) and error.status in {_UNAUTHORIZED, _FORBIDDEN}:
            return Finding("authorization", Verdict.WRONG, f"{error}; {_A_KEY}")
        return Finding("counts", Verdict.WRONG, str(error))
    words = f"{allowed}: {state.resp}, {stats.n_itm} segments, {stats.buff_size} bytes"
    return Finding("authorization", Verdict.OK, words)


async def _ask_readiness(client: GlitchflowClient) -> Finding:
    try:
        await client.ready()
    except GatewayError as error:
        return Finding("readiness", Verdict.WRONG, str(error))
    return Finding("readiness", Verdict.OK, "every tier can do its work")


async def _ask_ndjson(client: GlitchflowClient) -> Finding:
    try:
        many = await client.takes_many()
    except GatewayError as error:
        return Finding("streaming", Verdict.WRONG, str(error))
    words = "takes many segments in one request" if many else "takes one segment in a request"
    return Finding("streaming", Verdict.OK if many else Verdict.NOTE, words)

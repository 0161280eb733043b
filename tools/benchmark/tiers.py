"""`python -m tools.benchmark.tiers`: measure copies to tiers, recalls from tape, and pushes while packs are copied.

A datastore is started for each kind of tier. Plain copies of the same bytes are made beside each move, in turns. The
tape is a folder without mount, seek and limit; the object store is a SeaweedFS of this machine. Writes the section
"Tiers" of docs/benchmarks.md.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from databuffer.tier_urls import TierUrl
from databuffer.tiers.backends.object_store import open_object_store
from databuffer.tiers.tier import TierError
from gwwire.tiering import DISK
from scripts.trio import ServiceDied, Trio, free_ports
from tools.benchmark import plain
from tools.benchmark.archive import Archiver
from tools.benchmark.goals import Goal
from tools.benchmark.home import add_home
from tools.benchmark.load import GeneratorFailed
from tools.benchmark.machine import describe_machine, describe_versions, use_memory
from tools.benchmark.moves import CACHE, PLAIN, RCLONE, TAPE, Bench, Moves, Plan
from tools.benchmark.pushes import Pushes
from tools.benchmark.report import Circumstances, write_section
from tools.benchmark.servers import ServerFailed, servers_of
from tools.benchmark.yardstick import ROOT
from tools.weed import BUCKET, running_weed

_REPORT = ROOT / "docs" / "benchmarks.md"
FOLDER, STORE, PUSHES = "folder", "store", "pushes"
_NAMES = {FOLDER: "a folder", STORE: "an object store", DISK: "the disk"}
_KEYS = {
    "AWS_ALLOW_HTTP": "true",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "us-east-1",
}
_SETTINGS = {"MAX_SIZE": "1000TB", "SCRUB_EVERY": "forever"}
#: Without a limit; and no time for mounting and seeking.
_TAPE_OPTIONS = "mount=0&seek=0&rate=1000GB&online=1000GB"
_COPY, _INGEST = 0.8, 0.9
_FAILURES = (ServerFailed, GeneratorFailed, ServiceDied, TierError, OSError)
_AT_ONCE = 2
#: Bytes of the page cache that the measurements fill.
_MEMORY = 8 << 30


@contextmanager
def _running_trio(home: Path, tiers: Mapping[str, str], keys: Mapping[str, str]) -> Iterator[Trio]:
    home.mkdir()
    urls = " ".join(f"{name}={url}" for name, url in tiers.items())
    log = home / "services.log"
    settings = {**_SETTINGS, **keys}
    with log.open("ab") as output:
        trio = Trio(
            home,
            free_ports(),
            settings,
            each={"databuffer": {"TIERS": urls, "OBJECT_HIGH_WATER": "100%"}},
            output=output,
        )
        with trio:
            yield trio


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _measure_moves(plan: Plan, home: Path, kind: str) -> list[Moves]:
    """Measure copies and recalls with one kind of cache; nothing is copied to the disk, which has the archives."""
    _folder(home)
    tape, scratch = _folder(home / "tape"), _folder(home / "plain")
    tiers, keys = {TAPE: f"folder://{tape}?{_TAPE_OPTIONS}"}, dict[str, str]()
    place: plain.Place = plain.FilePlace(scratch)
    with ExitStack() as stack:
        if kind == FOLDER:
            tiers = {CACHE: f"file://{_folder(home / 'cache')}", **tiers}
        elif kind == STORE:
            keys = {**_KEYS, "AWS_ENDPOINT_URL": stack.enter_context(running_weed(_folder(home / "weed")))}
            tiers = {CACHE: f"s3://{BUCKET}/packs", **tiers}
            os.environ.update(keys)
            place = plain.StorePlace(open_object_store(TierUrl("plain", "s3", BUCKET, "/plain")), BUCKET)
        else:
            place = plain.UnpackedPlace(scratch)
        archiver = Archiver(stack.enter_context(_running_trio(home / "trio", tiers, keys)))
        bench = Bench(plan, archiver, tape, place, plain.FilePlace(scratch))
        copies = [] if kind == DISK else bench.copies(_NAMES[kind])
        return [*copies, bench.recalls(_NAMES[kind])]


def _measure_pushes(plan: Plan, home: Path, seconds: float, rounds: int) -> list[Pushes]:
    """Push to the gateway and to the buffer, while packs are copied to a folder that has none of them yet."""
    _folder(home)
    servers = 2
    tiers = {f"t{number}": f"file://{_folder(home / f't{number}')}" for number in range(rounds * servers)}
    names = iter(tiers)
    with _running_trio(home / "trio", tiers, {}) as trio:
        archiver = Archiver(trio)
        batches = [archiver.archive(plan.samples, plan.size) for _ in range(_AT_ONCE)]
        measured = [(server, Pushes(server.name)) for server in servers_of(trio)]
        for _ in range(rounds):
            for server, pushes in measured:
                pushes.measure(server, seconds, archiver, batches, next(names))
    return [pushes for _, pushes in measured]


def goals_of(moves: Sequence[Moves], pushes: Sequence[Pushes]) -> list[Goal]:
    """Compare the measurements with the goals."""
    goals = []
    for each in moves:
        beside = RCLONE if RCLONE in each.copies else PLAIN
        ratio, own, other = each.ratio(beside), each.speed(), each.speed(beside)
        measured = f"{ratio:.2f} x ({own:,.0f} against {other:,.0f} MB/s)"
        wanted = f"{each.what}: MB/s at least {_COPY} x those of a copy ({beside})"
        goals.append(Goal(wanted, measured, ratio >= _COPY))
    for push in pushes:
        wanted = f"segments/s at the {push.server} while packs are copied at least {_INGEST} x those without"
        goals.append(Goal(wanted, f"{push.ratio:.2f} x", push.ratio >= _INGEST))
    return goals


def section(plan: Plan, moves: Sequence[Moves], pushes: Sequence[Pushes], circumstances: Circumstances) -> list[str]:
    """Return the section on tiers."""
    text = (
        f"Packs of {plan.size / 1e6:,.0f} MB of segments with {plan.samples} samples, in the page cache. Seconds of a "
        "move are those of its step, with reading back, comparing and noting it. A plain copy reads the same files, "
        "writes one and syncs it, or uploads the same parts, and compares nothing. rclone copies the pack as a file, "
        "or the segments as files beside a recall to the disk, compares checksums where both sides have them, and "
        "syncs nothing; only its `check --download` reads back, as every move does. Recalled files were dropped, but "
        "their inodes are still in use: for some minutes after a drop, ext4 creates files several times slower. "
        "Copies are made before or after the move, in turns. Medians of the ratios and of the MB/s."
    )
    lines = [*circumstances.lines(), "", "Goals:", "", *(goal.line() for goal in goals_of(moves, pushes)), "", text, ""]
    lines += ["| move | MB/s | beside | MB/s | ratio |", "| --- | ---: | --- | ---: | ---: |"]
    lines += [
        f"| {each.what} | {each.speed():,.0f} | {name} | {each.speed(name):,.0f} | {each.ratio(name):.2f} |"
        for each in moves
        for name in each.copies
    ]
    if pushes:
        lines += ["", "Pushes of segments with 4096 samples, one a request, over 16 connections, while two packs are"]
        lines[-1] += " copied to a folder, and without, in turns:"
        lines += ["", "| server | segments/s idle | while copying | ratio | MB/s of the copies |"]
        lines += ["| --- | ---: | ---: | ---: | ---: |"]
        lines += [push.line() for push in pushes]
    return lines


def read_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; exit with status 2 if it is not valid."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark.tiers", description=__doc__)
    parser.add_argument("--size", type=int, default=250_000_000, help="bytes of a pack")
    parser.add_argument("--samples", type=int, default=4096, help="of a segment")
    parser.add_argument("--packs", type=int, default=4, help="for each measurement")
    parser.add_argument("--seconds", type=float, default=3.0, help="of a push")
    parser.add_argument("--rounds", type=int, default=5, help="of pushes, without and with copies")
    parser.add_argument("--only", choices=[*_NAMES, PUSHES], action="append", help="default: everything")
    add_home(parser)
    parser.add_argument("--report", type=Path, help="default: docs/benchmarks.md, or none with --only")
    options = parser.parse_args(arguments)
    if options.report is None and not options.only:
        options.report = _REPORT
    return options


def main(arguments: Sequence[str]) -> int:
    """Measure and report; return 2 if nothing could be measured."""
    options = read_arguments(arguments)
    wanted = options.only or [*_NAMES, PUSHES]
    plan = Plan(options.size, options.samples, options.packs)
    private = {"--home", "--report", str(options.home), str(options.report)}
    shown = [argument for argument in arguments if argument not in private]
    command = shlex.join(["python", "-m", "tools.benchmark.tiers", *shown])
    moves: list[Moves] = []
    pushes: list[Pushes] = []
    try:
        with TemporaryDirectory(prefix="glitchflow-bench-", dir=options.home) as folder:
            home = Path(folder)
            now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
            circumstances = Circumstances(now, command, describe_machine(home), describe_versions())
            use_memory(_MEMORY)
            for kind in _NAMES:
                moves += _measure_moves(plan, home / kind, kind) if kind in wanted else []
            if PUSHES in wanted:
                pushes = _measure_pushes(plan, home / PUSHES, options.seconds, options.rounds)
    except _FAILURES as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    lines = section(plan, moves, pushes, circumstances)
    print("\n".join(lines))
    if options.report:
        write_section(options.report, "tiers", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

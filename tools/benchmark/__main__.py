"""`make bench`: what each tier costs, and how near to the speed of the disk the whole is.

Starts the trio in a fresh home on free ports, drives it, and writes docs/benchmarks.md. `--stored N` looks instead
into what becomes slower while up to N segments are stored.
"""

import argparse
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from tools.benchmark.servers import Cell, Server, ServerFailed, servers_of, meter, other_server
from tools.benchmark.load import GeneratorFailed
from tools.benchmark.machine import describe_machine, describe_versions
from tools.benchmark.processes import Usage
from tools.benchmark.report import Circumstances, load_section, stored_section, write_section
from tools.benchmark.levels import Filling, Level, measure_levels
from tools.benchmark.sweep import Block, Plan, sweep
from tools.benchmark.tables import LevelTable, LoadTable
from scripts.trio import ServiceDied, Trio, free_ports

_REPORT = Path(__file__).parents[1] / "docs" / "benchmarks.md"
#: Nothing freezes while it is measured.
_ENDLESS = {"MAX_SIZE": "1000TB"}
_PLAN = Plan(samples=(300, 4096, 16384), connections=(1, 16, 64), seconds=3.0, floor_seconds=1.5)
_QUICK = Plan(samples=(300, 4096, 16384), connections=(16,), seconds=0.3, floor_seconds=0.3)
#: What keeps a benchmark from going on.
_HINDRANCES = (ServerFailed, GeneratorFailed, ServiceDied, OSError)
#: Lines of the services' log that are shown then.
_LAST_LINES = 20
#: Of one measurement; longer ones say no more.
_MOST_SECONDS = 600


def _named(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _named_url(text: str) -> tuple[str, str]:
    name, url = _named(text)
    if not url.startswith("http://"):
        raise argparse.ArgumentTypeError(f"{url!r} is not an http:// address")
    return name, url


def _named_pid(text: str) -> tuple[str, int]:
    name, pid = _named(text)
    if not pid.isdecimal():
        raise argparse.ArgumentTypeError(f"{pid!r} is not a process id")
    return name, int(pid)


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < _MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds between 0 and {_MOST_SECONDS}")
    return seconds


def read_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; a bad one ends the program with status 2."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short look, under 30 s; writes no report by itself")
    parser.add_argument("--stored", type=_positive, metavar="N", help="measure while up to N segments are stored")
    parser.add_argument("--samples", type=_positive, nargs="+", help="sizes of segments")
    parser.add_argument("--connections", type=_positive, nargs="+", help="requests under way at once")
    parser.add_argument("--seconds", type=_seconds, help="for each measurement")
    parser.add_argument(
        "--target", type=_named_url, action="append", default=[], metavar="NAME=URL", help="measure another server too"
    )
    parser.add_argument(
        "--pid", type=_named_pid, action="append", default=[], metavar="NAME=PID", help="a target's process to meter"
    )
    parser.add_argument("--no-trio", action="store_true", help="measure the targets alone")
    parser.add_argument(
        "--home", type=Path, help="where the data go, on the disk to measure; default: a temporary folder"
    )
    parser.add_argument("--report", type=Path, help="default: docs/benchmarks.md, or none with --quick")
    options = parser.parse_args(arguments)
    if options.no_trio and not options.target:
        parser.error("--no-trio leaves nothing to measure without --target")
    if options.stored and (options.target or options.no_trio):
        parser.error("--stored fills and restarts the trio; it takes no --target")
    if unknown := dict(options.pid).keys() - dict(options.target).keys():
        parser.error(f"--pid for {', '.join(sorted(unknown))}, which is no --target")
    if options.report is None and not options.quick:
        options.report = _REPORT
    return options


def _plan(options: argparse.Namespace) -> Plan:
    plan = _QUICK if options.quick else _PLAN
    seconds = options.seconds or plan.seconds
    return Plan(
        options.samples or plan.samples,
        options.connections or plan.connections,
        seconds,
        min(seconds, plan.floor_seconds),
    )


@contextmanager
def _fresh_home(parent: Path | None) -> Iterator[Path]:
    """Give an empty folder, and remove all of it afterwards, which takes its time."""
    home = Path(tempfile.mkdtemp(prefix="glitchflow-bench-", dir=parent))
    try:
        yield home
    finally:
        files = [path for path in home.rglob("*") if path.is_file()]
        for path in tqdm(files, unit="file", desc="removing what was written", leave=False, disable=None):
            path.unlink()
        shutil.rmtree(home)


@contextmanager
def _running_trio(home: Path) -> Iterator[Trio]:
    log = home / "services.log"
    try:
        with log.open("ab") as output, Trio(home, free_ports(), _ENDLESS, output=output) as trio:
            yield trio
    except _HINDRANCES:
        # The log goes with the home; what it said last is why.
        sys.stderr.write("".join(log.read_text().splitlines(keepends=True)[-_LAST_LINES:]))
        raise


def _tell(*lines: str) -> None:
    for line in lines:
        tqdm.write(line)


def run_sweep(options: argparse.Namespace, home: Path) -> tuple[list[Block], dict[str, Usage]]:
    """Measure every door, telling the numbers as they come; give them, and what the services hold at the end."""
    pids = dict(options.pid)
    with ExitStack() as stack:
        doors: list[Server] = []
        if not options.no_trio:
            doors += servers_of(stack.enter_context(_running_trio(home)))
        doors += [other_server(name, url, pids.get(name)) for name, url in options.target]
        blocks: list[Block] = []
        table = LoadTable(list(pids))
        for block in sweep(_plan(options), doors, home):
            if not blocks or blocks[-1].samples != block.samples:
                _tell("", f"{block.samples} samples", *table.head())
            _tell(*table.lines(block))
            _tell(f"  floor {block.floor_before:,.0f} before, {block.floor_after:,.0f} after, segments/s")
            blocks.append(block)
        return blocks, {name: used for door in doors for name, used in meter(door).items()}


def run_stored(options: argparse.Namespace, home: Path) -> list[Level]:
    """Measure with more and more segments stored, telling the numbers as they come."""
    # 10 and 990 are 1,000: one level begins where the measurement at the one before has ended.
    filling = Filling(options.stored, 100, 0.3) if options.quick else Filling(options.stored, 990, 1.0)
    table, levels = LevelTable(), []
    _tell(*table.head())
    with _running_trio(home) as trio:
        for level in measure_levels(filling, trio, home):
            _tell(table.line(level))
            levels.append(level)
    return levels


def _command(arguments: Sequence[str], options: argparse.Namespace) -> str:
    """Give the command without its folders and addresses, which are nobody's business."""
    private = {str(value) for value in (options.home, options.report) if value}
    shown = [argument for argument in arguments if argument not in private and argument not in {"--home", "--report"}]
    for name, url in options.target:
        shown = [argument.replace(f"{name}={url}", f"{name}=URL") for argument in shown]
    for name, pid in options.pid:
        shown = [argument.replace(f"{name}={pid}", f"{name}=PID") for argument in shown]
    return shlex.join(["python", "-m", "tools.benchmark", *shown])


def _complain(cells: Sequence[Cell]) -> int:
    spoiled = [cell for cell in cells if cell.load.refused]
    for cell in spoiled:
        place = f"{cell.door} {cell.mode}, {cell.samples} samples, {cell.connections} connections"
        print(f"bench: invalid: {place}: {cell.load.refused} refused, first {cell.load.complaint}", file=sys.stderr)
    return 1 if spoiled else 0


def main(arguments: Sequence[str]) -> int:
    """Measure and report; 1 where a measurement is not valid, 2 where none could be made."""
    options = read_arguments(arguments)
    try:
        with _fresh_home(options.home) as home:
            circumstances = Circumstances(
                f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
                _command(arguments, options),
                describe_machine(home),
                describe_versions(),
            )
            if options.stored:
                levels = run_stored(options, home)
                name, section = "stored", stored_section(levels, circumstances)
                cells = [level.cell for level in levels]
            else:
                blocks, usages = run_sweep(options, home)
                name, section = "load", load_section(blocks, usages, list(dict(options.pid)), circumstances)
                cells = [cell for block in blocks for cell in block.cells]
    except _HINDRANCES as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: stopped; nothing was written", file=sys.stderr)
        return 130
    if options.report:
        write_section(options.report, name, section)
        print(f"\nwritten to {options.report}")
    return _complain(cells)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`make bench`: measure what a segment costs in each service, and compare it with the yardstick.

Starts the trio in a fresh home on free ports, pushes segments, and writes docs/benchmarks.md. `--stored N` measures
instead what becomes slower with up to N segments stored.
"""

import argparse
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tqdm import tqdm

from scripts.trio import ServiceDied, Trio, free_ports
from tools.benchmark import client, records, spectrograms
from tools.benchmark.bodies import segment_bodies
from tools.benchmark.floor import measure_floor
from tools.benchmark.home import add_home
from tools.benchmark.levels import Filling, Level, measure_levels
from tools.benchmark.load import GeneratorFailed
from tools.benchmark.machine import describe_machine, describe_versions
from tools.benchmark.processes import Usage
from tools.benchmark.report import Circumstances, Sweep, load_section, stored_section, write_section
from tools.benchmark.servers import Cell, Server, ServerFailed, other_server, servers_of, usages
from tools.benchmark.sweep import Plan, sweep
from tools.benchmark.tables import LevelTable, LoadTable, comparison_lines
from tools.benchmark.yardstick import ROOT, SCRIPT, Comparison, YardstickSkipped, compare

_REPORT = ROOT / "docs" / "benchmarks.md"
#: Larger than any batch, so that nothing freezes during a measurement.
_SETTINGS = {"MAX_SIZE": "1000TB"}
_PLAN = Plan((300, 4096, 16384), connections=(1, 16, 64), seconds=3.0, floor_seconds=1.5, rounds=3)
_QUICK = Plan((300, 4096, 16384), connections=(16,), seconds=0.3, floor_seconds=0.3, rounds=1)
#: Errors that stop the benchmark.
_FAILURES = (ServerFailed, GeneratorFailed, ServiceDied, client.PushFailed, OSError)
#: Lines of the services' log that are printed after such an error.
_LAST_LINES = 20
_MAX_SECONDS = 600


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
    if not 0 < seconds < _MAX_SECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds between 0 and {_MAX_SECONDS}")
    return seconds


def read_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; exit with status 2 if it is not valid."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark", description=__doc__)
    parser.add_argument("--all", action="store_true", help="measure records, the client and the spectrograms too")
    parser.add_argument("--quick", action="store_true", help="half a minute; writes no report without --report")
    parser.add_argument("--stored", type=_positive, metavar="N", help="measure while up to N segments are stored")
    parser.add_argument("--records", type=_positive, metavar="N", help="measure only records and steps, with N records")
    parser.add_argument("--samples", type=_positive, nargs="+", help="segment sizes")
    parser.add_argument("--connections", type=_positive, nargs="+", help="requests in flight")
    parser.add_argument("--seconds", type=_seconds, help="for each measurement")
    parser.add_argument(
        "--target", type=_named_url, action="append", default=[], metavar="NAME=URL", help="measure another server too"
    )
    parser.add_argument(
        "--pid", type=_named_pid, action="append", default=[], metavar="NAME=PID", help="a target's process to measure"
    )
    parser.add_argument("--no-trio", action="store_true", help="measure the targets alone")
    parser.add_argument("--yardstick", type=Path, default=SCRIPT, help="default: ../shared/yardstick/compare.py")
    add_home(parser)
    parser.add_argument("--report", type=Path, help="default: docs/benchmarks.md, or none with --quick")
    options = parser.parse_args(arguments)
    if options.no_trio and not options.target:
        parser.error("--no-trio leaves nothing to measure without --target")
    if (options.stored or options.records) and (options.target or options.no_trio or options.all):
        parser.error("--stored and --records fill the trio; they take neither --target nor --all")
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
        plan.rounds,
    )


@contextmanager
def _fresh_home(parent: Path | None) -> Iterator[Path]:
    """Create an empty folder, and remove it after the last measurement, because removals slow the disk down."""
    home = Path(tempfile.mkdtemp(prefix="glitchflow-bench-", dir=parent))
    try:
        yield home
    finally:
        files = [path for path in home.rglob("*") if path.is_file()]
        for path in tqdm(files, unit="file", desc="removing the data", leave=False, disable=None):
            path.unlink()
        shutil.rmtree(home)


@contextmanager
def _running_trio(home: Path) -> Iterator[Trio]:
    home.mkdir()
    log = home / "services.log"
    try:
        with log.open("ab") as output, Trio(home, free_ports(), _SETTINGS, output=output) as trio:
            yield trio
    except _FAILURES:
        # The log is removed with the home; its end has the reason.
        sys.stderr.write("".join(log.read_text().splitlines(keepends=True)[-_LAST_LINES:]))
        raise


def _print(*lines: str) -> None:
    for line in lines:
        tqdm.write(line)


class Benchmark:
    """One run of the benchmark: measures under `home`, prints the numbers as they come, stores the report's sections.

    Attributes:
        sections: lines of the report, by the name of the section.
        cells: every measurement with the load generator.

    """

    def __init__(self, options: argparse.Namespace, home: Path, command: str) -> None:
        self.sections: dict[str, list[str]] = {}
        self.cells: list[Cell] = []
        self._options = options
        self._home = home
        self._circumstances = Circumstances(
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", command, describe_machine(home), describe_versions()
        )

    def run(self) -> None:
        """Measure everything that the options ask for."""
        if self._options.stored:
            self._measure_stored()
        if self._options.records:
            self._measure_records()
        if self._options.stored or self._options.records:
            return
        swept = self._sweep()
        if self._options.all:
            self._measure_records()
            self._measure_client()
        others = list(dict(self._options.pid))
        self.sections["load"] = load_section(self._finish(swept), others, self._circumstances)
        if self._options.all:
            speeds = spectrograms.measure_all()
            self.sections["preproc"] = spectrograms.section(speeds, self._circumstances)
            _print(*self.sections["preproc"])

    def _sweep(self) -> dict[str, Usage]:
        """Measure every server; return the use of CPU time and memory at the end."""
        pids = dict(self._options.pid)
        with ExitStack() as stack:
            servers: list[Server] = []
            if not self._options.no_trio:
                servers += servers_of(stack.enter_context(_running_trio(self._home / "load")))
            servers += [other_server(name, url, pids.get(name)) for name, url in self._options.target]
            table = LoadTable(list(pids))
            for cell in sweep(_plan(self._options), servers):
                if not self.cells or self.cells[-1].samples != cell.samples:
                    _print("", f"{cell.samples} samples", *table.head())
                _print(table.line(cell))
                self.cells.append(cell)
            return {name: used for server in servers for name, used in usages(server).items()}

    def _finish(self, used: dict[str, Usage]) -> Sweep:
        """Measure the floor and compare with the yardstick, which removes its own data: it comes last."""
        plan = _plan(self._options)
        floors = {size: measure_floor(self._home, segment_bodies(size), plan.floor_seconds) for size in plan.samples}
        _print("", *(f"floor with {size} samples: {floor:,.0f} segments/s" for size, floor in floors.items()))
        comparison, skipped = self._compare(plan)
        _print("", *([f"not compared with the yardstick: {skipped}"] if skipped else comparison_lines(comparison)))
        return Sweep(self.cells, used, floors, comparison, skipped)

    def _compare(self, plan: Plan) -> tuple[Comparison, str]:
        """Return the comparison with the yardstick, or why there is none."""
        if self._options.no_trio:
            return {}, "the product was not measured"
        try:
            return compare(self._options.yardstick, plan.samples, plan.seconds, plan.rounds, self._home), ""
        except YardstickSkipped as reason:
            return {}, str(reason)

    def _measure_records(self) -> None:
        plan = records.QUICK if self._options.quick else records.Plan()
        plan = replace(plan, records=self._options.records or plan.records)
        with _running_trio(self._home / "records") as trio, _running_trio(self._home / "without") as other:
            measured = records.measure_records(plan, trio, other)
        self.sections["records"] = records.section(measured, self._circumstances)
        _print("", *self.sections["records"])

    def _measure_client(self) -> None:
        with _running_trio(self._home / "client") as trio:
            cells = []
            _print("", *client.HEAD)
            for cell in client.measure_servers(trio):
                _print(cell.line())
                cells.append(cell)
        self.sections["client"] = client.section(cells, self._circumstances)

    def _measure_stored(self) -> None:
        # 10 and 990 are 1,000: a level begins where the measurement at the previous one ended.
        filling = Filling(self._options.stored, 100 if self._options.quick else 990)
        table, levels = LevelTable(), list[Level]()
        _print(*table.head())
        with _running_trio(self._home / "stored") as trio:
            for level in measure_levels(filling, trio):
                _print(table.line(level))
                levels.append(level)
                self.cells.append(level.cell)
        self.sections["stored"] = stored_section(levels, self._circumstances)


def _command(arguments: Sequence[str], options: argparse.Namespace) -> str:
    """Return the command without folders and addresses, which are private."""
    private = {str(value) for value in (options.home, options.report, options.yardstick) if value}
    private |= {"--home", "--report", "--yardstick"}
    shown = [argument for argument in arguments if argument not in private]
    for name, url in options.target:
        shown = [argument.replace(f"{name}={url}", f"{name}=URL") for argument in shown]
    for name, pid in options.pid:
        shown = [argument.replace(f"{name}={pid}", f"{name}=PID") for argument in shown]
    return shlex.join(["python", "-m", "tools.benchmark", *shown])


def _report_invalid(cells: Sequence[Cell]) -> int:
    invalid = [cell for cell in cells if cell.load.refused]
    for cell in invalid:
        place = f"{cell.server} {cell.mode}, {cell.samples} samples, {cell.connections} connections"
        print(f"bench: invalid: {place}: {cell.load.refused} refused, first {cell.load.complaint}", file=sys.stderr)
    return 1 if invalid else 0


def main(arguments: Sequence[str]) -> int:
    """Measure and report; return 1 if a measurement is invalid, 2 if none could be made."""
    options = read_arguments(arguments)
    try:
        with _fresh_home(options.home) as home:
            benchmark = Benchmark(options, home, _command(arguments, options))
            benchmark.run()
    except _FAILURES as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: stopped; nothing was written", file=sys.stderr)
        return 130
    if options.report:
        for name, section in benchmark.sections.items():
            write_section(options.report, name, section)
        print(f"\nwritten to {options.report}")
    return _report_invalid(benchmark.cells)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

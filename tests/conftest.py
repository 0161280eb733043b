import gc
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import scripts.trio
from scripts.trio import PORTS, Trio, free_ports
from tests.support.compiled import share_compiled_statements
from tests.support.examples import ignore_imported_constants
from tests.support.forked import ForkedTrio
from tests.support.memory_folder import use_memory
from tests.support.request_timeout import allow_a_minute
from tests.support.shared_tls import share_trust
from tools.weed import running_weed

SHARED = Path(__file__).parents[2] / "shared" / "data"

StartTrio = Callable[..., Trio]

# The duration of an example depends on the load of the machine.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For state machines, by `--hypothesis-profile long`: minutes instead of seconds, and other histories each time.
settings.register_profile("long", deadline=None, suppress_health_check=list(HealthCheck), max_examples=300)
settings.load_profile("suite")

# Each of the processes that test at the same time draws ports that the others do not.
_worker, _workers = os.environ.get("PYTEST_XDIST_WORKER", "gw0"), os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
scripts.trio.PORTS = PORTS[int(_worker.removeprefix("gw")) :: int(_workers)]

share_compiled_statements()
share_trust()
ignore_imported_constants()
allow_a_minute()
use_memory()


def pytest_collection() -> None:
    """Collect no garbage while the tests are imported: there is none."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Exclude half a million objects of imports and tests from each garbage collection."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def original_segments() -> list[Path]:
    """Segment files written by the original system."""
    files = sorted((SHARED / "original").glob("gwb*.json"))
    if not files:
        pytest.skip("the original system's segment files are not beside the project (../shared/data/original)")
    return files


@pytest.fixture(scope="session")
def gw150914_files() -> dict[str, Path]:
    """The strain files of GW150914, by detector."""
    files = {path.name[0] + "1": path for path in (SHARED / "gwosc").glob("*.hdf5")}
    if sorted(files) != ["H1", "L1"]:
        pytest.skip("the GWOSC files of GW150914 are not beside the project (../shared/data/gwosc)")
    return files


def _starter(stack: ExitStack, make_home: Callable[[], Path]) -> StartTrio:
    def start(
        environment: Mapping[str, str] | None = None,
        *,
        each: Mapping[str, Mapping[str, str]] | None = None,
        services: int = 3,
        home: Path | None = None,
        fresh: bool = False,
    ) -> Trio:
        home = home or make_home()
        home.mkdir(exist_ok=True)
        output = stack.enter_context((home / "services.log").open("ab"))
        kind = Trio if fresh else ForkedTrio
        trio = kind(home, free_ports(), environment, each=each, output=output, services=services)
        stack.enter_context(trio)
        if isinstance(trio, ForkedTrio):
            stack.callback(trio.kill)
        return trio

    return start


@pytest.fixture
def start_trio(tmp_path: Path) -> Iterator[StartTrio]:
    """Start the trio, or its lower services, with real processes and sockets; killed when the test ends.

    With `fresh`, each process is a new interpreter, as in production, and stopped; otherwise its imports are done (see
    `Forked`).
    """
    with ExitStack() as stack:
        yield _starter(stack, lambda: tmp_path / "home")


@pytest.fixture(scope="module")
def start_shared_trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartTrio]:
    """Return `start_trio` with the scope of a module."""
    with ExitStack() as stack:
        yield _starter(stack, lambda: tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="session")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a real S3 server, which the workers of a test run share."""
    with running_weed(_shared(tmp_path_factory)) as url:
        yield url


def _shared(factory: pytest.TempPathFactory) -> Path:
    base = factory.getbasetemp()
    return base.parent if base.name.startswith("popen-") else base

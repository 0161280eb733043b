"""The three services from a user's view: real processes, real sockets."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from gwwire.public import TrainFrozen
from scripts.trio import Trio, free_ports
from tests.support.files import contents_of
from tests.support.segments import JSON, check_counts, segment_body

ROOT = Path(__file__).parents[2]
ALICE = {"user": "alice", "token": "very-secret"}


@pytest.fixture(scope="module")
def started(start_shared_trio: Callable[..., Trio]) -> tuple[Trio, str]:
    """Start the trio; return it with the log of its start."""
    trio = start_shared_trio({"MAX_SIZE": "20kB"})
    return trio, (trio.home / "services.log").read_text()


@pytest.fixture(scope="module")
def trio(started: tuple[Trio, str]) -> Trio:
    return started[0]


def script(
    trio: Trio, name: str, *arguments: str, data: bytes = b"", around: str = 'exec "$0" "$@"', key: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run a script, by default with nothing around it."""
    return subprocess.run(
        ["/bin/sh", "-c", around, str(ROOT / "scripts" / name), *arguments],
        check=False,
        env={**os.environ, "SRV": trio.url, "GLITCHFLOW_KEY_FILE": str(key or "")},
        input=data,
        capture_output=True,
        timeout=60,
    )


def test_the_workflow_of_a_batch_with_the_shell_scripts(trio: Trio, original_segments: list[Path]) -> None:
    assert b'"n_itm":0' in script(trio, "stats.sh").stdout
    assert b'"nmlist":[]' in script(trio, "dumpbuf.sh").stdout
    sent = script(trio, "streamdata.sh", *(str(path) for path in original_segments))
    assert sent.stdout.count(b'"CREATED"') == len(original_segments) == 4
    assert script(trio, "train.sh", "alice", 'a "quoted\\ token').stdout.count(b'"FROZEN"') == 1
    assert b'"FROZEN"' in script(trio, "streamdata.sh", data=segment_body(1)).stdout
    assert b'"FROZEN"' in script(trio, "desc.sh").stdout
    assert b'"CLEANED"' in script(trio, "cleanbuf.sh", "the story is over").stdout
    assert b'"OPERATIONAL"' in script(trio, "desc.sh").stdout
    stored = [path.read_bytes() for path in sorted((trio.home / "datavar").glob("2*/gwb*.json"))]
    assert stored == [path.read_bytes() for path in original_segments]


@pytest.mark.parametrize(
    "name", ["envsetup.sh", "train.sh", "stats.sh", "desc.sh", "dumpbuf.sh", "streamdata.sh", "cleanbuf.sh"]
)
def test_every_script_prints_its_usage(trio: Trio, name: str) -> None:
    helped = script(trio, name, "--help")
    assert helped.returncode == 0
    assert name.encode() in helped.stdout
    assert b"SRV" in helped.stdout


@pytest.mark.parametrize(
    "value",
    ["", "a", "two\nlines\n", 'a "quote"', "back\\slash\\", "\t\r\x01\x1f\x7f", "%s 100%", "$HOME `id` 'x'", "é 日本"],
)
def test_the_scripts_send_every_value_as_it_is(value: str) -> None:
    shown = subprocess.run(
        ["/bin/sh", "-c", '. scripts/envsetup.sh; json_string "$1"', "sh", value],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    assert json.loads(shown.stdout) == value


def test_a_value_of_many_lines_reaches_the_gateway_as_one_value(trio: Trio) -> None:
    assert b'"CLEANED"' in script(trio, "cleanbuf.sh", 'the "first" line\nthe second\\').stdout
    refused = script(trio, "train.sh", "alice\nbob", "secret")
    assert refused.returncode == 22
    assert json.loads(refused.stdout)["code"] == "invalid-request"
    assert json.loads(refused.stdout)["field"] == "user"


def test_the_help_of_train_names_every_field_of_the_answer(trio: Trio) -> None:
    helped = script(trio, "train.sh", "--help").stdout.decode()
    for field in TrainFrozen.__struct_fields__:
        assert f'"{field}"' in helped


def test_a_script_shows_the_problem_and_fails(trio: Trio) -> None:
    refused = script(trio, "streamdata.sh", data=b'{"h":[]}')
    assert refused.returncode == 22
    assert b"invalid-segment" in refused.stdout
    assert script(trio, "train.sh", "alice").returncode == 2
    assert script(trio, "streamdata.sh", "/no/such/file").returncode == 2


@pytest.mark.parametrize(("bad", "status"), [("empty.json", 22), ("missing.json", 2), ("folder", 2)])
def test_streamdata_names_a_file_that_fails_and_sends_the_others(
    trio: Trio, tmp_path: Path, bad: str, status: int
) -> None:
    (tmp_path / "empty.json").touch()
    (tmp_path / "folder").mkdir()
    for number in (1, 2):
        (tmp_path / f"{number}.json").write_bytes(segment_body(number))
    sent = script(trio, "streamdata.sh", *(str(tmp_path / name) for name in ("1.json", bad, "nowhere.json", "2.json")))
    assert (sent.returncode, sent.stdout.count(b'"CREATED"')) == (status, 2)
    named = [line for line in sent.stderr.decode().splitlines() if str(tmp_path) in line]
    assert [line.count(name) for line, name in zip(named, (bad, "nowhere.json"), strict=True)] == [1, 1]


def test_streamdata_takes_pipes(trio: Trio) -> None:
    sent = script(trio, "streamdata.sh", "/dev/fd/0", data=segment_body(3), around='cat | "$0" "$@"')
    assert (sent.returncode, sent.stdout.count(b'"CREATED"')) == (0, 1)


@pytest.mark.parametrize("file", ["missing.key", "empty.key"])
def test_without_a_key_streamdata_sends_nothing(trio: Trio, tmp_path: Path, file: str) -> None:
    (tmp_path / "empty.key").touch()
    sent = script(trio, "streamdata.sh", data=segment_body(4), key=tmp_path / file)
    assert (sent.returncode, sent.stdout) == (2, b"")


@pytest.mark.parametrize("name", ["stats.sh", "streamdata.sh"])
def test_an_output_that_cannot_be_written_is_a_failure(trio: Trio, name: str) -> None:
    failed = script(trio, name, data=segment_body(5), around='"$0" > /dev/full')
    assert failed.returncode not in (0, 2)
    assert failed.stderr != b""


def test_after_every_answer_counts_and_directory_agree(trio: Trio) -> None:
    with httpx2.Client(base_url=trio.url) as client:
        for number in range(10):
            client.post("/streamdata", content=segment_body(number), headers=JSON)
            check_counts(trio.home, client.get("/stats").json())
        client.post("/cleanbuf", json={"msg": ""})
        check_counts(trio.home, client.get("/stats").json())


def test_the_token_is_in_no_log_answer_or_file(trio: Trio) -> None:
    with httpx2.Client(base_url=trio.url) as client:
        for number in range(300):
            client.post("/streamdata", content=segment_body(number), headers=JSON)
        assert client.post("/train", json=ALICE).json()["resp"] == "FROZEN"
        assert "very-secret" not in client.get("/dspage").text
        assert "very-secret" not in httpx2.get(f"{trio.services[1].url}/dsdesc").text
        assert not any(b"very-secret" in content for content in contents_of(trio.home).values())
        client.post("/cleanbuf", json={"msg": ""})
    assert "very-secret" not in (trio.home / "services.log").read_text()
    assert "frozen by alice" in (trio.home / "services.log").read_text()


def test_the_gateway_runs_under_fastapis_own_command(trio: Trio) -> None:
    logic = next(service.url for service in trio.services if service.name == "dslogic")
    port = free_ports().api
    command = [sys.executable, "-m", "fastapi", "run", "glitchflow_api/main.py", "--port", str(port)]
    log = trio.home / "gateway.log"
    with log.open("wb") as output:
        environment = {**os.environ, "DS_BURL": logic, "WEB_CONCURRENCY": "auto"}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}") as client:
            wait_for(lambda: client.get("/readyz").status_code == 200)
            answer = client.post("/streamdata", content=segment_body(1), headers=JSON)
            assert answer.json()["resp"] == "CREATED"
            assert client.get("/readyz", headers={"Connection": "close"}).status_code == 200
    finally:
        process.terminate()
        process.wait(60)
    assert "/readyz" not in log.read_text()  # as under `python -m`: no line for each request


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except httpx2.TransportError:
            pass
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def supervised(tmp_path: Path) -> Callable[[], tuple[subprocess.Popen[str], str]]:
    """Start the services as `make run` does; return the supervisor and the gateway's address."""

    def start() -> tuple[subprocess.Popen[str], str]:
        ports = free_ports()
        environment = {
            "GLITCHFLOW_HOME": str(tmp_path / "home"),
            "PORT_API": str(ports.api),
            "PORT_LOGIC": str(ports.logic),
            "PORT_BUFFER": str(ports.buffer),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "scripts.run"],
            cwd=ROOT,
            env={**os.environ, **environment},
            stderr=subprocess.PIPE,
            text=True,
        )
        url = f"http://127.0.0.1:{ports.api}"
        wait_for(lambda: httpx2.get(f"{url}/readyz").status_code == 200)
        return process, url

    return start


Supervised = Callable[[], tuple[subprocess.Popen[str], str]]


def children_of(process: subprocess.Popen[str]) -> dict[str, int]:
    """Return the services' process ids, by name."""
    found = {}
    for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        found[command[2]] = int(pid)
    return found


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_supervisor_stops_all_cleanly(supervised: Supervised, tmp_path: Path, stop: signal.Signals) -> None:
    process, url = supervised()
    httpx2.post(f"{url}/streamdata", content=segment_body(1), headers=JSON)
    services = children_of(process)
    assert set(services) == {"databuffer", "gunicorn", "glitchflow_api"}
    process.send_signal(stop)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in services.values())
    assert "ERROR" not in output
    assert len(list((tmp_path / "home" / "datavar" / "data").glob("gwb*.json"))) == 1
    assert (tmp_path / "home" / "appdata" / "adm" / "StatDesc.json").exists()
    assert (tmp_path / "home" / "appdata" / "log" / "LogStream.json").exists()


def test_a_start_says_nothing_of_tiers_that_are_not_there_yet(started: tuple[Trio, str]) -> None:
    _, said = started
    assert '"event":"open"' in said
    assert "request-failed" not in said


def run_with(home: Path, **ports: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "scripts.run"],
        check=False,
        cwd=ROOT,
        env={**os.environ, "GLITCHFLOW_HOME": str(home), **ports},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_taken_port_stops_the_start_with_one_line_that_names_its_setting(trio: Trio, tmp_path: Path) -> None:
    free = free_ports()
    taken = [service.url.rpartition(":")[2] for service in trio.services[1:]]
    done = run_with(tmp_path / "home", PORT_BUFFER=str(free.buffer), PORT_LOGIC=taken[0], PORT_API=taken[1])
    assert done.returncode == 1
    assert done.stderr == (
        f"run: cannot listen on 127.0.0.1: PORT_API={taken[1]} (Address already in use), "
        f"PORT_LOGIC={taken[0]} (Address already in use); set another port\n"
    )
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("ports", "said"),
    [
        ({"PORT_API": "http"}, "run: PORT_API='http': expected a port number from 1 to 65535\n"),
        ({"PORT_LOGIC": "0"}, "run: PORT_LOGIC='0': expected a port number from 1 to 65535\n"),
        ({"PORT_BUFFER": "65536"}, "run: PORT_BUFFER='65536': expected a port number from 1 to 65535\n"),
        (
            {"PORT_API": "18080", "PORT_LOGIC": "18080"},
            "run: PORT_API, PORT_LOGIC and PORT_BUFFER must differ, not 18080, 18080, 8080\n",
        ),
    ],
)
def test_a_port_that_cannot_be_used_is_named(tmp_path: Path, ports: dict[str, str], said: str) -> None:
    done = run_with(tmp_path / "home", **ports)
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.parametrize("victim", ["databuffer", "gunicorn"])
def test_a_dying_service_takes_the_rest_down(supervised: Supervised, victim: str) -> None:
    process, _ = supervised()
    services = children_of(process)
    os.kill(services[victim], signal.SIGKILL)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ended with status -9" in output
    assert not any(Path(f"/proc/{pid}").exists() for pid in services.values())


def test_a_dying_gateway_takes_the_rest_down_and_a_signal_during_the_stop_leaves_no_service_behind(
    supervised: Supervised,
) -> None:
    process, _ = supervised()
    services = children_of(process)
    os.kill(services["glitchflow_api"], signal.SIGKILL)
    assert process.stderr is not None
    while "stopping the others" not in (line := process.stderr.readline()):
        assert line
    assert "ended with status -9" in line
    process.send_signal(signal.SIGTERM)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in output
    assert not any(Path(f"/proc/{pid}").exists() for pid in services.values())

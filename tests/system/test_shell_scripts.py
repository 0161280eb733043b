"""The shell scripts at an address that is not the gateway's."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.raw_server import ServerConnection, raw_server

ROOT = Path(__file__).parents[2]
SCRIPTS = {
    "stats.sh": "/stats",
    "desc.sh": "/desc",
    "dumpbuf.sh": "/dumpbuf",
    "streamdata.sh": "/streamdata",
    "train.sh alice secret": "/train",
    "cleanbuf.sh": "/cleanbuf",
}


def run_script(command: str, answer: str, user: str = "") -> subprocess.CompletedProcess[str]:
    """Run a script whose requests get this answer."""

    def answers(talk: ServerConnection) -> None:
        talk.request()
        talk.say(f"HTTP/1.1 {answer}\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello".encode())

    name, *arguments = command.split()
    with raw_server(answers) as server:
        return subprocess.run(
            ["/bin/sh", str(ROOT / "scripts" / name), *arguments],
            check=False,
            env={**os.environ, "SRV": server.url.replace("//", f"//{user}")},
            input="{}",
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.mark.parametrize("command", SCRIPTS)
def test_an_answer_of_a_gateway_is_printed_and_a_success(command: str) -> None:
    seen = run_script(command, "200 OK\r\nContent-Type: application/json")
    assert (seen.returncode, seen.stdout, seen.stderr) == (0, "hello\n", "")


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent"])
@pytest.mark.parametrize(("command", "path"), SCRIPTS.items())
def test_a_redirect_is_an_error_that_names_the_address_to_set(command: str, path: str, status: str) -> None:
    seen = run_script(command, f"{status}\r\nLocation: https://gw.example.org/flow{path}")
    assert (seen.returncode, seen.stdout) == (22, "hello\n")
    name, reason = (
        command.split(maxsplit=1)[0],
        f"{path} is redirected ({status[:3]}) to https://gw.example.org/flow{path}",
    )
    lines = seen.stderr.splitlines()
    assert lines[0] == f"{name}: {reason}; set SRV=https://gw.example.org/flow"
    assert lines[1:] == (["streamdata.sh: sending - failed"] if name == "streamdata.sh" else [])


@pytest.mark.parametrize("query", ["next=1", "rd=/stats"])
def test_a_redirect_to_another_page_suggests_no_address(query: str) -> None:
    seen = run_script("stats.sh", f"302 Found\r\nLocation: https://login.example.org/?{query}")
    assert seen.returncode == 22
    assert seen.stderr == f"stats.sh: /stats is redirected (302) to https://login.example.org/?{query}\n"


def test_a_redirect_does_not_show_the_password_in_srv() -> None:
    seen = run_script("stats.sh", "301 Moved Permanently\r\nLocation: /flow/stats", user="alice:secret@")
    assert seen.returncode == 22
    assert "to http://***@127.0.0.1:" in seen.stderr
    assert "secret" not in seen.stderr


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("200 OK\r\nContent-Type: text/html", "200 text/html"),
        ("200 OK", "200 without a type"),
        ("202 Accepted\r\nContent-Type: application/json", "202 application/json"),
        ("304 Not Modified", "304 without a type"),
    ],
)
def test_the_answer_of_another_server_is_an_error(answer: str, said: str) -> None:
    seen = run_script("stats.sh", answer)
    assert seen.returncode == 22
    assert seen.stderr == f"stats.sh: /stats answered {said}, not 200 application/json as a gateway does\n"


@pytest.mark.parametrize("status", [400, 503])
def test_a_problem_is_printed_with_the_words_of_curl(status: int) -> None:
    seen = run_script("stats.sh", f"{status} Problem\r\nContent-Type: application/problem+json")
    assert (seen.returncode, seen.stdout) == (22, "hello\n")
    assert seen.stderr == f"curl: (22) The requested URL returned error: {status}\n"


def test_a_gateway_that_does_not_answer_is_named_by_curl() -> None:
    seen = subprocess.run(
        ["/bin/sh", str(ROOT / "scripts" / "stats.sh")],
        check=False,
        env={**os.environ, "SRV": "http://127.0.0.1:1"},
        capture_output=True,
        text=True,
    )
    assert seen.returncode == 7
    assert seen.stderr.startswith("curl: (7) ")
    assert "answer|" not in seen.stderr

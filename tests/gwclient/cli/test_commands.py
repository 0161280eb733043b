"""The other commands of `gwclient`, their output, and wrong usage."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gwclient.amounts import bytes_text
from gwclient.cli import gwclient as cli
from scripts.trio import draw_ports
from tests.support.command import SIMULATE, Outcome
from tests.support.gateway import StandInGateway
from tests.support.raw_server import Script, ServerConnection, raw_server

# ---- questions and orders


def test_the_gateways_verbs_answer_in_words(gateway: StandInGateway, gwclient: Any, tmp_path: Path) -> None:
    assert gwclient("train", "--user", "ada", "--token", "t").out == "WAITING: the batch is not complete yet\n"
    assert gwclient("list").out == ""
    gwclient(*SIMULATE)
    size = bytes_text(sum(map(len, gateway.bodies)))
    assert gwclient("stats").out == f"16 segments, {size}\n"
    assert gwclient("desc").out == "OPERATIONAL\n"
    assert gwclient("list").out.count("\n") == 16
    frozen = gwclient("train", "--user", "ada", "--token", "t")
    assert frozen.out == f"FROZEN: 16 segments, {size}, held by ada\n"
    assert gwclient("desc").out == "FROZEN\n"
    batch_file = tmp_path / "batch"
    other = gwclient("train", "--user", "bob", "--token", "t", "--batch-file", str(batch_file))
    assert (other.code, other.out) == (6, f"FROZEN: 16 segments, {size}, held by ada\n")
    assert other.err == "gwclient: ada holds the batch, not bob\n"
    assert not batch_file.exists()
    assert gwclient("clean", "--message", "done").out == "CLEANED: done\n"


def test_the_gateways_verbs_answer_in_json(gateway: StandInGateway, gwclient: Any) -> None:
    assert gwclient("stats", "--json").json == {"n_itm": 0, "buff_size": 0}
    assert gwclient("list", "--json").json == {"nmlist": []}
    assert gwclient("desc", "--json").json == {"resp": "OPERATIONAL"}
    assert gwclient("train", "--user", "ada", "--token", "t", "--json").json == {"resp": "WAITING"}
    assert gwclient("clean", "--json").json == {"resp": "CLEANED", "body": "cleaned by gwclient"}
    assert gateway.requests


@pytest.mark.parametrize(("tiers", "why"), [((), "to name its tiers"), (("--archive-to", ""), "the only copy")])
def test_a_time_on_disk_without_tiers_is_refused_with_the_reason(
    gwclient: Any, tiers: tuple[str, ...], why: str
) -> None:
    done = gwclient("tier", "plan", "--keep-on-disk", "7d", *tiers)
    assert done.code == 2
    assert why in done.err


def test_a_group_without_a_command_shows_its_help(gwclient: Any) -> None:
    done = gwclient("tier")
    assert (done.code, done.err) == (0, "")
    assert done.out == gwclient("tier", "--help").out


# ---- doctor


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """Run a web server; yield its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = False  # those that are not daemons have ended when the server is closed
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class Answering(BaseHTTPRequestHandler):
    """Answers OPTIONS as GET, and logs nothing."""

    def do_GET(self) -> None:
        raise NotImplementedError

    def do_OPTIONS(self) -> None:
        self.do_GET()

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response_only(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


def verdicts(done: Outcome) -> dict[str, str]:
    return {finding["check"]: finding["verdict"] for finding in done.json}


def test_a_doctor_names_what_a_simple_gateway_lacks_and_what_is_wrong(gateway: StandInGateway, gwclient: Any) -> None:
    done = gwclient("doctor", "--json", "--tries", "1")
    assert done.code == 1
    assert verdicts(done) == {
        "client": "ok", "frames": "ok", "cursors": "ok", "address": "note", "authorization": "ok",
        "readiness": "wrong", "streaming": "ok",
    }  # fmt: skip
    assert "OPTIONS /streamdata" in gateway.requests
    assert "wrong readiness: GET /readyz answered 404" in gwclient("doctor", "--tries", "1").out


def test_a_doctor_says_that_nobody_answers(gwclient: Any) -> None:
    done = gwclient("doctor", "--srv", f"127.0.0.1:{draw_ports(1)[0]}", "--tries", "1")
    assert done.code == 3
    assert "wrong address: no gateway at http://127.0.0.1:" in done.out
    assert "name another with --srv or SRV, or start it" in done.out


def test_a_dead_address_is_given_up_soon_and_what_is_done_meanwhile_is_shown(gwclient: Any) -> None:
    address = f"127.0.0.1:{draw_ports(1)[0]}"
    for command in ("doctor", "stats", "segments"):
        done = gwclient(command, "--srv", address)
        assert done.code == 3
        tries = [line for line in done.err.splitlines() if "; trying again in 0." in line]
        assert len(tries) == 2
        assert tries[0].startswith(f"no gateway at http://{address}: Connection refused")
        assert "(after 3 tries)" in done.out + done.err
    with_user = gwclient("stats", "--srv", f"http://alice:pass@{address}", "--tries", "1").err
    assert f"no gateway at http://{address}: Connection refused (after 1 try)" in with_user
    assert "alice" not in gwclient("stats", "--srv", f"http://alice:pass@{address}/?x").err


def test_a_doctor_gives_up_soon_on_a_gateway_without_the_services_behind_it(gwclient: Any) -> None:
    class Handler(Answering):
        def do_GET(self) -> None:
            known = {"/openapi.json": b'{"info":{"version":"1"}}', "/whoami": b'{"auth":"off"}'}
            body = known.get(self.path, b"")
            self.answer(200 if body else 502, body)

    with serving(Handler) as address:
        done = gwclient("doctor", "--srv", address)
        asked_once_more = gwclient("doctor", "--srv", address, "--tries", "4")
    assert done.code == 1
    assert re.search(r"wrong readiness: GET /readyz answered 502.* \(after 3 tries\)", done.out)
    assert {line.split("; ")[-1][:18] for line in done.err.splitlines()} == {"trying again in 0."}
    assert "(after 4 tries)" in asked_once_more.out


def test_a_doctor_is_not_deceived_by_another_web_server(gwclient: Any, tmp_path: Path) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with serving(handler) as address:
        done = gwclient("doctor", "--srv", address)
    assert done.code == 3
    assert "wrong address: no service of the datastore answers at http://127.0.0.1:" in done.out


def test_a_doctor_finds_a_clock_that_is_wrong_and_a_missing_key(gwclient: Any, tmp_path: Path) -> None:
    asked: list[str | None] = []

    class Handler(Answering):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Authorization"))
            is_open = self.path == "/openapi.json"
            body = b'{"info":{"version":"9.9"}}' if is_open else b"{}"
            self.answer(200 if is_open else 401, body, Date="Sat, 21 Nov 2026 00:00:00 GMT")

    (tmp_path / "key").write_text("gfk_secret\n")
    with serving(Handler) as address:
        srv = ("--srv", address, "--tries", "1")
        told = gwclient("doctor", *srv, "--json")
        keyed = gwclient("doctor", *srv, "--key-file", str(tmp_path / "key"))
    assert {name: verdicts(told)[name] for name in ("version", "clock", "authorization")} == {
        "version": "note", "clock": "wrong", "authorization": "wrong",
    }  # fmt: skip
    assert "give a key that is valid with --key-file" in keyed.out
    assert set(asked) == {None, "Bearer gfk_secret"}
    assert "gfk_secret" not in keyed.out + keyed.err


# ---- the output


@pytest.mark.parametrize(
    "command",
    [("stats",), ("list", "--json"), ("watch", "--count", "1"), ("get", "gwb1.json", "--help"), ("--version",)],
)
def test_output_that_cannot_be_written_is_one_line_and_exit_code_5(
    gateway: StandInGateway, gwclient: Any, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    gateway.bodies.append(b"{}")
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        done = gwclient(*command)
    assert (done.code, done.err) == (5, "gwclient: the output cannot be written: No space left on device\n")


def test_output_whose_reader_is_gone_is_exit_code_5_without_a_message(gateway: StandInGateway) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "gwclient", "stats", "--srv", gateway.url]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (5, "")


def test_an_error_that_cannot_be_written_keeps_its_exit_code(
    gateway: StandInGateway, gwclient: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert gwclient("desc", "--nonsense").code == 2
    assert not gateway.requests


# ---- errors and shells


@pytest.mark.parametrize("command", [("train", "--user", "\udcff", "--token", "t"), ("get", "--channel", "\udcff")])
def test_an_argument_that_is_no_utf8_is_one_line_and_exit_code_2(
    gateway: StandInGateway, gwclient: Any, command: tuple[str, ...]
) -> None:
    done = gwclient(*command)
    assert (done.code, done.err) == (2, "gwclient: '\\udcff' is not UTF-8 text\n")
    assert not gateway.requests


def test_with_debug_the_line_comes_after_its_traceback(gwclient: Any) -> None:
    away = ("stats", "--srv", f"127.0.0.1:{draw_ports(1)[0]}", "--tries", "1")
    assert gwclient(*away).err.count("\n") == 1
    debugged = gwclient(*away, "--debug").err
    assert debugged.startswith("Traceback")
    assert debugged.splitlines()[-1].startswith("gwclient: no gateway at")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_commands(gwclient: Any, shell: str) -> None:
    assert f"_GWCLIENT_COMPLETE={shell}_complete" in gwclient("completion", shell).out
    words = {"COMP_WORDS": "gwclient pus", "COMP_CWORD": "1", "_GWCLIENT_COMPLETE": "bash_complete"}
    program = "from gwclient.cli import main; main()"
    if shell == "bash":
        done = subprocess.run(
            [sys.executable, "-c", program], env=os.environ | words, capture_output=True, text=True, check=False
        )
        assert done.stdout == "plain,push\n"


# ---- usage


@pytest.mark.parametrize("command", ["search", "bundle"])
def test_a_field_of_a_query_that_is_written_as_an_option_is_refused_with_how_it_is_written(
    gwclient: Any, command: str
) -> None:
    answer = gwclient(command, "--start", "1126259446")
    hint = "A query is written in words: start=VALUE."
    assert (answer.code, answer.err) == (2, f"gwclient: No such option '--start'. {hint}\n")


def test_an_option_before_the_command_is_refused_with_where_it_belongs(gwclient: Any) -> None:
    answer = gwclient("--srv", "http://127.0.0.1:1", "stats")
    hint = "Options come after the command: gwclient stats --srv URL."
    assert (answer.code, answer.err) == (2, f"gwclient: No such option '--srv'. {hint}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("push",),
        ("push", "--event", "GW150914", "--start", "20"),
        ("push", "--event", "GW150914", "--detector", "L1", "--start", "4", "--stop", "-4"),
        ("push", "--event", "GW150914", "--detector", "Livingston", "--start", "-4", "--stop", "4"),
        ("push", "--event", "GW150914", "--detector", "L1,L1", "--start", "-4", "--stop", "4"),
        ("push", "--event", "GW150914", "--detector", "L1", "--start", "nan", "--stop", "4"),
        ("push", "--event", "GW150914", "--file", __file__),
        ("push", "--file", "nowhere.hdf5"),
        ("push", "--file", __file__),
        ("push", "--file", __file__, "--detector", "L1"),
        ("push", "--gps", "1126259446", "1126259478"),
        ("push", "--gps", "1126259478", "1126259446", "--detector", "L1"),
        ("push", "--stdin", "--dq", "DATA"),
        ("push", "--stdin", "--file", __file__),
        ("push", "--event", "GW150914", "--channel", "L1:X"),
        ("push", "--file", __file__, "--dq", "no bits"),
        ("push", "--folder", "nowhere"),
        ("push", "--file", __file__, "--key-file", "nowhere"),
        ("replay", "nowhere.hdf5"),
        ("replay", __file__, "--rate", "0"),
        ("replay", __file__, "--spool-size", "much"),
        ("get",),
        ("get", "gwb1.json", "--batch", "b1"),
        ("get", "--channel", "L1:X", "--start", "5", "--stop", "4"),
        ("segments", "--start", "5", "--stop", "5"),
        ("stats", "--key-file", "/bin/sh"),
        ("clean", "--batch-file", "/bin/sh"),
        ("clean", "--batch-file", "nowhere"),
        ("clean", "--batch", ""),
        ("clean", "--batch", "b1", "--after", ""),
        ("clean", "--after", ""),
        ("tier", "plan", ""),
        ("tier", "apply", "--yes", ""),
        ("recall", ""),
        ("listen", "s1", "--after", "", "--", "true"),
        ("listen", "", "--", "true"),
        ("push", "--event", ""),
        ("push", __file__, "--channel", ""),
        ("get", "--batch", ""),
        ("segments", "--batch", ""),
        ("records", "--kind", ""),
        ("changes", "--last", ""),
        ("delete", "-l", "", "--yes"),
        ("delete", "-l", "keep", "--yes", ""),
        ("put", "-l", "keep", ""),
        ("getfile", ""),
        ("getfile", "/a", "-r", ""),
        ("find", "-p", ""),
        ("get", "--batch", "b1", "--out", ""),
        ("bundle", "--out", ""),
        ("push", ""),
        ("push", "--folder", ""),
        ("push", "--file", ""),
        ("replay", ""),
        ("replay", __file__, "--spool", ""),
        ("simulate", "--out", ""),
        ("simulate", "--truth", ""),
        ("train", "--token", "t", "--batch-file", ""),
        ("clean", "--batch-file", ""),
        ("stats", "--key-file", ""),
        ("delete", "-l", "keep", "--yes", "/"),
        ("batch", ".."),
        ("batch", "../stats"),
        ("batch", ""),
        ("manifest", "."),
        ("get", ".."),
        ("record", "file/a/./b", "--set", "a=1"),
        ("record", "file/x/../y", "--set", "a=1"),
        ("record", "file/x//y"),
        ("redo", "batch/b1", ".."),
        ("forget", "."),
        ("stat", ".."),
        ("undo", "."),
        ("recall", ".."),
        ("listen", "..", "--", "true"),
        ("watch", "--full", "much"),
        ("watch", "--full", "9" * 400),
        ("train", "--user", "ada", "--token", "t", "--poll", "0"),
        ("simulate", "--seconds", "0"),
        ("simulate", "--seconds", "1e9"),
        ("simulate", "--rate", "1"),
        ("simulate", "--seed", "-1"),
        ("simulate", "--detectors", "X9"),
        ("simulate", "--concurrency", "0"),
        ("simulate", "--segment-seconds", "-1"),
        ("simulate", "--tries", "0"),
        ("simulate", "--out", __file__),
        ("stats", "--srv", "ftp://gateway"),
        ("stats", "--srv", "http://a..b:80"),
        ("stats", "--srv", "h" * 300),
        ("stats", "--srv", "http://\udcff:1"),
        ("train", "--user", "ada"),
        ("train", "--user", "ada", "--token", "t", "--batch-file", "nowhere/batch"),
        ("train", "--user", "ada", "--token", "t", "--batch-file", ""),
        ("train", "--user", "ada", "--token", "t", "--batch-file", "/"),
        ("dance",),
    ],
    ids=" ".join,
)
def test_an_unreasonable_command_is_exit_code_2_with_one_line_and_sends_nothing(
    gateway: StandInGateway, gwclient: Any, arguments: tuple[str, ...]
) -> None:
    done = gwclient(*arguments)
    assert done.code == 2
    assert done.err.startswith("gwclient: ")
    assert done.err.count("\n") == 1
    assert not done.out
    assert not gateway.requests


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--gps", "1126259478", "1126259446.5", "--detector", "L1"),
            "--gps 1126259478 1126259446.5: the start is not before the stop",
        ),
        (("--event", "GW150914", "--start", "20"), "--start 20 is not before the stop, which is 15 without --stop"),
        (("--event", "GW150914", "--stop", "-20"), "--stop -20 is not after the start, which is -16 without --start"),
        (
            ("--folder", ".", "--start", "1126259478.25", "--stop", "1126259446"),
            "--start 1126259478.25 is not before --stop 1126259446",
        ),
    ],
)
def test_a_window_that_ends_before_it_starts_is_named_as_it_was_written(
    gwclient: Any, arguments: tuple[str, ...], words: str
) -> None:
    assert gwclient("push", *arguments).err == f"gwclient: {words}\n"


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("INF", "4", "INF 4 is not before SUP 4"),
        ("INF", "soon", "Invalid value for 'INF': 'soon' is not a number"),
        (
            "DTCID",
            "Livingston",
            "Invalid value for 'DTCID': 'Livingston' is not a detector; detectors are named like H1, L1, V1",
        ),
    ],
)
def test_a_wrong_window_in_the_environment_names_the_setting(
    gwclient: Any, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, words: str
) -> None:
    for name, given in {"GWID": "GW150914", "DTCID": "L1", "INF": "-4", "SUP": "4", setting: value}.items():
        monkeypatch.setenv(name, given)
    done = gwclient()
    assert (done.code, done.err) == (2, f"gwclient: {words}\n")


def test_a_span_that_is_reversed_is_refused_with_the_numbers_as_they_are(gwclient: Any) -> None:
    for command in ("get", "segments"):
        done = gwclient(command, "--start", "1126259446.5", "--stop", "1126259446")
        assert done.err == "gwclient: --start 1126259446.5 is not before --stop 1126259446.0\n"


def test_half_a_window_in_the_environment_names_the_other_half(
    gateway: StandInGateway, gwclient: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GWID", "GW150914")
    monkeypatch.setenv("INF", "-4")
    done = gwclient()
    assert done.code == 2
    assert done.err == "gwclient: the environment names a window, but these are not set: DTCID, SUP\n"
    assert not gateway.requests


def test_without_arguments_and_window_the_help_is_shown(gateway: StandInGateway, gwclient: Any) -> None:
    done = gwclient()
    assert done.code == 0
    assert "Usage: gwclient" in done.out
    assert not gateway.requests


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_every_command_explains_itself_with_an_example_and_the_exit_codes(gwclient: Any, command: str) -> None:
    done = gwclient(command, "--help")
    assert done.code == 0
    assert f"gwclient {command}" in done.out.partition("Example")[2]
    assert "130  interrupted" in done.out


def test_the_version_is_reported(gwclient: Any) -> None:
    assert gwclient("--version").out.startswith("gwclient, version ")


@pytest.mark.parametrize(("program", "module"), [("gwclient", "click"), ("preproc", "numpy")])
def test_an_interrupt_while_modules_are_imported_is_one_line(program: str, module: str) -> None:
    probe = f"""
import os, runpy, signal, sys
class Finder:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
sys.argv = [{program!r}, "--help"]
runpy.run_module({program!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", f"{program}: interrupted\n")


def test_gwpy_is_not_imported_where_it_is_not_needed() -> None:
    probe = "import sys, gwclient.cli; sys.exit('gwpy' in sys.modules or 'scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0


def test_a_rate_that_cannot_be_one_is_called_a_rate(gwclient: Any) -> None:
    assert gwclient("replay", __file__, "--rate", "0").err.endswith(" 0 is not a rate from 0.01 to 1000\n")


@pytest.mark.parametrize(
    "words",
    [
        ("get", "--batch", "b1", "--batch", "b2"),
        ("get", "gwb0.json", "--format", "hdf5", "--format", "ndjson"),
        ("push", "--event", "GW150914", "--detector", "H1", "--detector", "L1"),
        ("push", "--gps", "1", "2", "--gps", "3", "4", "--detector", "H1"),
        ("simulate", "--detectors", "H1", "--detectors=L1"),
        ("holdings", "-t", "a:b", "--tag", "c:d"),
        ("tier", "plan", "--archive-to", "object", "--archive-to", "tape"),
        ("records", "--run", "1", "--run", "2"),
    ],
)
def test_an_option_of_one_value_that_is_given_twice_is_refused(
    gateway: StandInGateway, gwclient: Any, words: tuple[str, ...]
) -> None:
    done = gwclient(*words)
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith(" may be given once only\n"), done.err
    assert not gateway.requests


def redirecting(location: str) -> Script:
    def script(talk: ServerConnection) -> None:
        talk.request()
        talk.say(f"HTTP/1.1 301 Moved Permanently\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode())

    return script


@pytest.mark.parametrize(
    ("base", "location", "words"),
    [
        ("", "https://gw.example.org/PATH", "https://gw.example.org/PATH: set SRV=https://gw.example.org"),
        ("/flow", "https://u:p@gw/flow/PATH", "https://***@gw/flow/PATH: set SRV=https://***@gw/flow"),
        ("", "https://sso/login?to=1", "https://sso/login?to=1: --srv or SRV has to name the gateway itself"),
        ("", "https://sso/in?rd=/PATH", "https://sso/in?rd=/PATH: --srv or SRV has to name the gateway itself"),
        ("", "/PATH", "URL/PATH: --srv or SRV has to name the gateway itself"),
        ("", "https://[", "https://[: --srv or SRV has to name the gateway itself"),
    ],
)
def test_a_redirect_names_the_address_that_it_leads_to(gwclient: Any, base: str, location: str, words: str) -> None:
    def asked(command: str, path: str) -> tuple[str, Outcome]:
        with raw_server(redirecting(location.replace("PATH", path))) as server:
            done = gwclient(command, "--srv", server.url + base)
            target = words.replace("PATH", path).replace("URL", server.url)
        return f"{server.url}{base} redirects to {target}", done

    expected, done = asked("stats", "stats")
    assert (done.code, done.err) == (3, f"gwclient: {expected}\n")
    expected, done = asked("doctor", "openapi.json")
    assert (done.code, done.out.splitlines()[-1]) == (3, f"wrong address: {expected}")

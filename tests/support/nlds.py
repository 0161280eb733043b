"""NLDS' unmodified client in an environment of its own, and what it needs: a configuration and an OAuth server."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import which
from threading import Thread
from typing import Any, Self
from urllib.parse import parse_qs

REQUIREMENT = "nlds-client==1.0.17"
#: Secrets that the client sends in each query; nothing may keep them.
ACCESS_KEY, SECRET_KEY = "nlds-access-key-1f0c", "nlds-secret-key-77ab"
_DOCUMENTED = (Path(__file__).parents[2] / "docs" / "nlds.md").read_text()
_DRIVER = Path(__file__).with_name("nlds_driver.py")


class NotInstalled(Exception):
    """The client cannot be installed; the message says why."""


def install(folder: Path) -> Path:
    """Install the client and all that it pins in a folder, unless it is there; return the folder."""
    done = folder / "installed"
    if not done.exists():
        pip = ["uv", "pip", "install", "--quiet"] if which("uv") else [sys.executable, "-m", "pip", "install", "-q"]
        command = [*pip, "--target", str(folder), REQUIREMENT]
        made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if made.returncode:
            raise NotInstalled(made.stderr.strip()[-500:] or f"{command[0]} ended with {made.returncode}")
        done.touch()
    return folder


class OAuthServer(ThreadingHTTPServer):
    """A stand-in for the OAuth server of an institute: it has the next token for each refresh token."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _TokenRoute)
        self.tokens: dict[str, str] = {}
        self.asked = 0

    @property
    def url(self) -> str:
        """The token URL."""
        return f"http://127.0.0.1:{self.server_address[1]}/oauth/token/"


class _TokenRoute(BaseHTTPRequestHandler):
    server: OAuthServer

    def do_POST(self) -> None:
        """Answer a request of grant type `refresh_token`."""
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.server.asked += 1
        refresh = form["refresh_token"][0]
        token = self.server.tokens.get(refresh) if form["grant_type"] == ["refresh_token"] else None
        answer = {"access_token": token, "refresh_token": refresh} if token else {"error": "invalid_grant"}
        body = json.dumps(answer).encode()
        self.send_response(200 if token else 400)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def oauth_server() -> Iterator[OAuthServer]:
    """Yield a running server."""
    with OAuthServer() as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


class NldsClient:
    """The client of a user whose home is a folder; a process of its own runs all commands."""

    def __init__(self, installed: Path, home: Path) -> None:
        self.home = home
        self._installed = installed
        self.environment = {"PATH": os.defpath, "HOME": str(home), "PYTHONPATH": str(installed), "LANG": "C.UTF-8"}
        self.token = home / ".nlds-token"

    def configure(self, url: str, user: str, group: str, token: str, oauth: str) -> None:
        """Write the configuration and the token as docs/nlds.md says."""
        configuration, tokens = map(json.loads, re.findall(r"```json\n(.*?)```", _DOCUMENTED, re.DOTALL))
        configuration["server"]["url"] = url
        configuration["user"] = {"default_user": user, "default_group": group}
        configuration["authentication"]["oauth_token_url"] = oauth
        configuration["object_storage"] |= {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
        (self.home / ".nlds-config").write_text(json.dumps(configuration))
        self.token.write_text(json.dumps(tokens | {"access_token": token, "refresh_token": f"refresh-{user}"}))

    def __enter__(self) -> Self:
        command = [sys.executable, "-S", str(_DRIVER)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self._driver = subprocess.Popen(command, env=self.environment, text=True, **pipes)  # type: ignore[call-overload]
        return self

    def __exit__(self, *_: object) -> None:
        self._driver.communicate()

    def run(self, folder: Path, *words: str) -> tuple[int, str]:
        """Return exit code and output of `nlds WORDS` in a folder."""
        answer = self._ask({"folder": str(folder), "words": words})
        return answer["code"], answer["text"]

    def wait(self, transaction: str) -> Any:
        """Return a transaction when it has ended: its state, percent, and failed files with reasons."""
        return self._ask({"folder": str(self.home), "wait": transaction})

    def command(self, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the installed command `nlds` in a process of its own."""
        command = [sys.executable, "-S", str(self._installed / "bin" / "nlds"), *words]
        return subprocess.run(
            command, env=self.environment, cwd=folder, capture_output=True, text=True, check=False, timeout=60
        )

    def _ask(self, request: Any) -> Any:
        assert self._driver.stdin
        assert self._driver.stdout
        self._driver.stdin.write(json.dumps(request) + "\n")
        self._driver.stdin.flush()
        return json.loads(self._driver.stdout.readline())

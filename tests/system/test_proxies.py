"""A gateway behind a proxy that changes ETags, as those do that compress answers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from scripts.trio import Trio
from tests.support.app_server import AppServer
from tests.support.typed import type_client

StartTrio = Callable[..., Trio]
_OWN_HEADERS = {"content-length", "transfer-encoding", "connection", "date", "server", "host", "accept-encoding"}
CHANGES: dict[str, Callable[[str], str]] = {
    "nginx": lambda etag: f"W/{etag}",
    "httpd": lambda etag: f'{etag[:-1]}-gzip"',
    "without": lambda _: "",
}


@contextmanager
def proxy_of(url: str, change: Callable[[str], str]) -> Iterator[str]:
    async def pass_on(request: web.Request) -> web.Response:
        sent = {name: value for name, value in request.headers.items() if name.lower() not in _OWN_HEADERS}
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method, url + request.raw_path, data=await request.read(), headers=sent, allow_redirects=False
            ) as answer,
        ):
            kept = {name.lower(): value for name, value in answer.headers.items()}
            kept = {name: value for name, value in kept.items() if name not in _OWN_HEADERS}
            if (etag := kept.pop("etag", "")) and (changed := change(etag)):
                kept["etag"] = changed
            if request.method == "HEAD":
                kept["content-length"] = answer.headers.get("Content-Length", "0")
            return web.Response(body=await answer.read(), status=answer.status, headers=kept)

    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{anything:.*}", pass_on)
    with AppServer(app) as server:
        yield server.url


@pytest.mark.parametrize("proxy", CHANGES)
def test_strain_files_and_bundles_pass_a_proxy_that_changes_etags(
    tmp_path: Path,
    start_trio: StartTrio,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    proxy: str,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    source = tmp_path / "a.npy"
    np.save(source, np.linspace(-1e-21, 1e-21, 1024))
    push = f"gwclient push {source} --rate 256 --t0 1400000000 --channel L1:A"
    trio = start_trio(home=tmp_path / "var")
    with proxy_of(trio.url, CHANGES[proxy]) as url:
        monkeypatch.setenv("SRV", url)
        for count in (4, 0):
            code, printed = type_client(push, capsys)
            assert (code, printed.split()[0]) == (0, str(count)), printed
        for command in (f"put {source} -l kept", f"getfile {source} -l kept -r {tmp_path / 'back'}"):
            code, printed = type_client(f"gwclient {command}", capsys)
            assert code == 0, printed
        [back] = (tmp_path / "back").rglob("a.npy")
        assert back.read_bytes() == source.read_bytes()
        code, printed = type_client(f"gwclient bundle channel=L1:A --out {tmp_path}", capsys)
        assert (code == 0) == (proxy != "without"), printed

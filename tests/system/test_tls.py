"""The gateway's own TLS: a real chain, real clients, a certificate that changes, and unusable files."""

import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from scripts.trio import Trio, describe, free_ports
from tests.support.certificates import Authority
from tests.support.forked import Forked, run_forked
from tests.support.segments import JSON, segment_body


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def files(authority: Authority) -> tuple[Path, Path]:
    return authority.certify("gateway")


@pytest.fixture(scope="module")
def gateway(
    start_shared_trio: Callable[..., Trio], files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The address of a gateway with TLS, above two services without."""
    lower = start_shared_trio(services=2)
    [service] = [
        each for each in describe(tmp_path_factory.mktemp("home"), free_ports()) if each.name == "glitchflow_api"
    ]
    settings = {**service.environment, "DS_BURL": lower.url, "TLS_CERT": str(files[0]), "TLS_KEY": str(files[1])}
    _python, _m, *module = service.command
    with Path(os.devnull).open("wb") as nowhere:
        process = Forked(module, {**os.environ, **settings}, nowhere)
    try:
        port = int(service.url.rpartition(":")[2])
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"https://127.0.0.1:{port}"
    finally:
        process.terminate()
        assert process.wait(60) == 0


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.root)


def test_a_client_that_trusts_the_root_gets_through_and_one_that_does_not_stays_out(
    gateway: str, authority: Authority
) -> None:
    with httpx2.Client(base_url=gateway, verify=trusting(authority)) as client:
        assert client.get("/readyz").status_code == 200
        for number in range(3):
            stored = client.post("/streamdata", content=segment_body(number), headers=JSON)
            assert stored.json()["resp"] == "CREATED"
        many = client.post(
            "/streamdata",
            content=segment_body(8) + b"\n" + segment_body(9),
            headers={"Content-Type": "application/x-ndjson"},
        )
        assert [json.loads(line)["resp"] for line in many.text.splitlines()] == ["CREATED"] * 2
    with pytest.raises(httpx2.ConnectError), httpx2.Client(base_url=gateway) as stranger:
        stranger.get("/readyz")


@pytest.mark.parametrize(("trusts", "status"), [(True, 0), (False, 3)])
def test_the_client_trusts_a_private_authority_that_ssl_cert_file_names(
    gateway: str, authority: Authority, *, trusts: bool, status: int
) -> None:
    environment = {**os.environ, "SRV": gateway, **({"SSL_CERT_FILE": str(authority.root)} if trusts else {})}
    command = [sys.executable, "-m", "gwclient", "stats", "--json", "--tries", "1"]
    asked = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert asked.returncode == status, asked.stderr
    if trusts:
        assert "n_itm" in json.loads(asked.stdout)
    else:
        assert "certificate" in asked.stderr.lower()


def test_old_protocols_are_refused(gateway: str, authority: Authority) -> None:
    context = trusting(authority)
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    port = int(gateway.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 60) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def serial(gateway: str, authority: Authority) -> str:
    port = int(gateway.rpartition(":")[2])
    with (
        socket.create_connection(("127.0.0.1", port), 60) as plain,
        trusting(authority).wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        certificate = connection.getpeercert()
    assert certificate
    return str(certificate["serialNumber"])


def test_a_new_certificate_is_taken_up_and_a_broken_one_is_not(
    gateway: str, authority: Authority, files: tuple[Path, Path]
) -> None:
    first = serial(gateway, authority)
    renewed = authority.certify("renewed")
    for old, new in zip(files, renewed, strict=True):
        os.replace(new, old)  # noqa: PTH105 (in one step, as a mounted Secret changes)
    deadline = time.monotonic() + 60
    while (second := serial(gateway, authority)) == first:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    files[1].write_text("no key")
    time.sleep(1.2)
    assert serial(gateway, authority) == serial(gateway, authority) == second


def test_files_that_are_no_good_stop_the_gateway_with_one_line(authority: Authority) -> None:
    certificate, _ = authority.certify("one")
    _, key = authority.certify("another")
    ended = run_forked(["glitchflow_api"], {**os.environ, "TLS_CERT": str(certificate), "TLS_KEY": str(key)})
    assert ended.returncode == 2
    [line] = ended.stderr.splitlines()
    assert "TLS_CERT, TLS_KEY" in line
    assert str(key) in line

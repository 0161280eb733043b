"""Bundles through the gateway of the real trio: downloads are resumed, and files are those that were stored."""

import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from gwwire.public import Scope
from scripts.trio import Trio
from tests.support.keyring import Keyring
from tests.support.segments import JSON

CHANNEL = "L1:GWOSC-4KHZ_R1_STRAIN"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keyring:
    return Keyring(tmp_path_factory.mktemp("keys") / "keys.json")


@pytest.fixture(scope="module")
def credentials(keys: Keyring) -> dict[Scope, str]:
    """Return a header with a key of each scope; the gateway reads keys that are made later only after seconds."""
    return {scope: f"Authorization: Bearer {keys.make(scope, scope)}" for scope in (Scope.READ, Scope.STREAM)}


@pytest.fixture(scope="module")
def trio(start_shared_trio: Callable[..., Trio], keys: Keyring, credentials: dict[Scope, str]) -> Trio:
    assert credentials
    return start_shared_trio(keys.settings)


def test_a_reader_downloads_an_archive_with_curl_and_resumes_it(
    trio: Trio, credentials: dict[Scope, str], tmp_path: Path
) -> None:
    headers = dict([credentials[Scope.STREAM].split(": ")]) | JSON
    bodies = [
        json.dumps({"h": [1e-21] * 4096, "t": [second, 1 / 4096], "meta": {"channel": CHANNEL}}, separators=(",", ":"))
        for second in range(20)
    ]
    with httpx2.Client(base_url=trio.url) as client:
        for body in bodies:
            assert client.post("/streamdata", content=body, headers=headers).json()["resp"] == "CREATED"
        refused = client.post("/bundles", json={"query": {}}, headers=headers)
        assert refused.json()["code"] == "forbidden"
        reader = dict([credentials[Scope.READ].split(": ")])
        made = client.post("/bundles", json={"query": {"channel": CHANNEL}}, headers=reader)
        assert (made.status_code, made.headers["age"]) == (200, "0")
        head = client.head(f"/bundles/{made.json()['id']}/archive", headers=reader)
        assert int(head.headers["content-length"]) == made.json()["size"]
        url, file = f"{trio.url}/bundles/{made.json()['id']}/archive", tmp_path / "a.tar"
        with client.stream("GET", url, headers=reader) as cut, file.open("wb") as part:
            for chunk in cut.iter_bytes(100_000):
                part.write(chunk)
                if part.tell() >= 300_000:
                    break
        assert 300_000 <= file.stat().st_size < made.json()["size"]
        resume = ["/usr/bin/curl", "-sS", "-f", "-H", credentials[Scope.READ], "-C", "-"]
        subprocess.run([*resume, "-H", f"If-Range: {head.headers['etag']}", "-o", file, url], check=True)
        assert file.read_bytes() == client.get(url, headers=reader).content
    with tarfile.open(fileobj=io.BytesIO(file.read_bytes())) as tar:
        contents = [tar.extractfile(info).read().decode() for info in tar]  # type: ignore[union-attr]
    assert json.loads(contents[0])["n"] == len(bodies)
    assert contents[1:] == bodies

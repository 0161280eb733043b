"""docker-compose.nlds.yml: the gateway's container reads and writes a folder of this machine for NLDS' client."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import msgspec
import pytest

from gwwire.public import Scope
from scripts.stack import Stack
from scripts.trio import free_ports
from tests.support.containers import wait_for
from tests.support.keyring import Keyring

pytestmark = pytest.mark.timeout(900)

#: The user of the containers.
_USER = 10001


class Site:
    """The services, and a key of alice, who shares a folder with them."""

    def __init__(self, stack: Stack, key: str, shared: Path) -> None:
        self.stack, self.shared = stack, shared
        self._headers = {"Authorization": f"Bearer {key}"}

    def call(self, method: str, route: str, body: Any = None, **query: str) -> Any:
        """Call a route of NLDS' API as its client does."""
        url, asked = f"{self.stack.url}/api/1.0.0/{route}/", {"user": "alice", "group": "detchar", **query}
        answer = httpx2.request(method, url, params=asked, headers=self._headers, json=body or {})
        assert answer.status_code == 202, answer.text
        return msgspec.json.decode(answer.json())

    def until_complete(self, transaction: str) -> None:
        def is_complete() -> bool:
            [record] = self.call("GET", "status", transaction_id=transaction)["data"]["records"]
            return [each["state"] for each in record["sub_records"]] == ["COMPLETE"]

        wait_for(is_complete, "the end of the transaction")


@pytest.fixture(scope="module")
def site(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    assert images
    if os.geteuid() != 0:
        pytest.skip("the containers' user cannot be given a key: this is not run as root")
    folder = tmp_path_factory.mktemp("nlds")
    shared, keys = folder / "shared", folder / "keys"
    for each in (shared, keys):
        each.mkdir()
    keyring = Keyring(keys / "keys.json")
    key = keyring.make("alice", Scope.READ, Scope.STREAM, group="detchar")
    for path in (shared, keys, keyring.path):
        shutil.chown(path, _USER)
    with pytest.MonkeyPatch.context() as environment:
        files = "docker-compose.yml:docker-compose.keys.yml:docker-compose.nlds.yml"
        environment.setenv("COMPOSE_FILE", files)
        environment.setenv("KEYS_DIR", str(keys))
        environment.setenv("NLDS_SHARED", str(shared))
        environment.setenv("NLDS_ROOTS", str(shared))
        environment.setenv("PORT_API", str(free_ports().api))
        stack = Stack(f"glitchflow-test-{os.getpid()}-nlds")
        try:
            stack.up()
            yield Site(stack, key, shared)
        finally:
            stack.down(volumes=True)


def test_files_of_the_shared_folder_are_put_and_come_back_also_after_a_restart(site: Site) -> None:
    file, out = site.shared / "notes.md", site.shared / "out"
    file.write_text("notes")
    file.chmod(0o644)
    put, get = str(uuid4()), str(uuid4())
    site.call("PUT", "files", {"filelist": [str(file)], "label": "notes"}, transaction_id=put)
    site.until_complete(put)
    site.call("GET", "files", transaction_id=get, filepath=str(file), label="notes", target=str(out))
    site.until_complete(get)
    assert Path(f"{out}{file}").read_text() == "notes"
    site.stack.down(volumes=False)
    site.stack.up()
    site.until_complete(put)

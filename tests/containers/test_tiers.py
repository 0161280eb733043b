"""docker-compose.tiers.yml: batches are copied to a real S3 server, and rebuilt from it when the volume is lost."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest

from scripts.engine import ROOT
from scripts.stack import Stack
from scripts.trio import free_ports
from tests.support.containers import Container, docker, wait_for
from tests.support.segments import segment_body
from tools.clients import Connection

pytestmark = pytest.mark.timeout(900)

#: Read an object past the keys of S3, from the server's own file system.
LOOK_INTO = """
import hashlib, io, json, sys, tarfile, urllib.error, urllib.request
def refused(url):
    try:
        urllib.request.urlopen(url, timeout=10)
    except urllib.error.HTTPError as error:
        return error.code
content = urllib.request.urlopen(f"http://s3:8888/buckets/{sys.argv[1]}", timeout=10).read()
print(json.dumps({"sha256": hashlib.sha256(content).hexdigest(), "size": len(content),
                  "names": tarfile.open(fileobj=io.BytesIO(content)).getnames(),
                  "anonymous": refused(f"http://s3:8333/{sys.argv[1]}")}))
"""


@pytest.fixture(scope="module")
def s3_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image of the S3 server made of the base image and the program of the tests, so that no registry is needed."""
    folder, name = tmp_path_factory.mktemp("s3"), f"glitchflow-test-s3:{os.getpid()}"
    copyfile(Path(sys.executable).with_name("weed"), folder / "weed")
    base = os.environ.get("BASE") or "python:3.13-slim"
    (folder / "Dockerfile").write_text(f"FROM {base}\nCOPY weed /usr/bin/weed\nRUN chmod 755 /usr/bin/weed\n")
    docker("build", "--quiet", "--tag", name, str(folder), seconds=600)
    yield name
    docker("rmi", "--force", name)


@pytest.fixture(scope="module")
def tiered(images: dict[str, str], s3_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The services as the comments of docker-compose.tiers.yml start them."""
    assert images
    folder = tmp_path_factory.mktemp("tiers")
    [command] = re.findall(r"^# +(printf .*)$", (ROOT / "docker-compose.tiers.yml").read_text(), re.MULTILINE)
    subprocess.run(["sh", "-c", command], cwd=folder, check=True)  # noqa: S607 (the user's)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("COMPOSE_FILE", "docker-compose.yml:docker-compose.tiers.yml")
        environment.setenv("S3_ENV", str(folder / "s3.env"))
        environment.setenv("S3_IMAGE", s3_image)
        environment.setenv("PORT_API", str(free_ports().api))
        environment.setenv("MAX_SIZE", "1kB")
        stack = Stack(f"glitchflow-test-{os.getpid()}-tiers")
        try:
            stack.up()
            yield stack
        finally:
            stack.down(volumes=True)


def compose(stack: Stack, *words: str) -> str:
    done = subprocess.run([*stack.compose, *words], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def verified(stack: Stack, batch: str) -> dict[str, Any]:
    """Return the replicas of a batch by tier as soon as the one in the object store is verified."""
    found: dict[str, Any] = {}

    def is_verified() -> bool:
        replicas = Connection(stack.url).get(f"/batches/{batch}/replicas")["replicas"]
        found.update({each["tier"]: each for each in replicas})
        return "object" in found and found["object"]["state"] == "VERIFIED"

    wait_for(is_verified, "a verified copy")
    return found


def test_a_batch_is_copied_and_comes_back_when_the_volume_is_lost(tiered: Stack) -> None:
    connection = Connection(tiered.url)
    for number in range(20):
        assert connection.post("/streamdata", segment_body(number))[1]["resp"] == "CREATED"
    frozen = connection.post("/train", b'{"user":"alice","token":"secret"}')[1]
    assert frozen["resp"] == "FROZEN"
    assert connection.post("/cleanbuf", b'{"msg":"trained"}')[1]["resp"] == "CLEANED"
    batch = frozen["batch"]
    replicas = verified(tiered, batch)
    assert replicas["disk"]["sha256"] == replicas["object"]["sha256"]

    buffer = Container(tiered.container("databuff"))
    seen = buffer.python(LOOK_INTO, f"glitchflow/packs/{replicas['object']['key']}")
    assert (seen["sha256"], seen["size"]) == (replicas["object"]["sha256"], replicas["object"]["size"])
    assert seen["names"][0] == "MANIFEST.json"
    assert len(seen["names"]) == 21
    assert seen["anonymous"] == 403

    compose(tiered, "rm", "--stop", "--force", "databuff")
    docker("volume", "rm", f"{tiered.project}_data", f"{tiered.project}_appdata")
    told = compose(tiered, "run", "--rm", "-T", "databuff", "python", "-m", "databuffer", "tiers", "rebuild")
    assert "1 folder restored, 0 problems" in told
    tiered.up()
    again = verified(tiered, batch)
    assert again.keys() == {"object"}
    assert again["object"]["sha256"] == replicas["object"]["sha256"]
    [found] = [each for each in Connection(tiered.url).get("/batches")["batches"] if each["id"] == batch]
    assert (found["state"], found["n_itm"], found["digest"]) == ("ARCHIVED", 20, frozen["digest"])

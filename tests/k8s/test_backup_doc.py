"""docs/deployment.md, "Backup and restore": its commands are run as written, in the shell, and every one succeeds.

A small `kubectl` on the PATH runs what follows `exec POD --` here, on folders instead of the pod's volumes; so does one
of `docker-compose` with what follows the service. As root it
does so as the images' user, on volumes like a cluster's: their mount points belong to root.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from databuffer.app import create_app, create_buffer
from databuffer.settings import BufferSettings
from tests.support.manifest_rules import UID
from tests.support.manifests import ROOT

KUBECTL = f"""#!{sys.executable}
import os, re, sys
words = sys.argv[1:]
if {{"exec", "run"}}.intersection(words):
    volumes = os.environ["VOLUMES"]
    first = words.index("--" if "exec" in words else "databuff") + 1
    command = [re.sub(r"(?<!\\w)/(?=datavar|appdata)", volumes + "/", word) for word in words[first:]]
    command = [volumes if word == "/" else word for word in command]
    # The interpreter may be in a folder that only root may enter.
    if os.geteuid() == 0 and command[0] != "python":
        os.setgroups([{UID}])
        os.setgid({UID})
        os.setuid({UID})
    os.execvp(command[0], command)
"""


@contextmanager
def buffer(volumes: Path) -> Iterator[TestClient]:
    """Run a buffer on the volumes, as its pod does."""
    settings = BufferSettings(
        DTVOLROOT=volumes / "datavar",
        DATAROOT=volumes / "datavar" / "data",
        ADMROOT=volumes / "appdata" / "adm",
        LOGROOT=volumes / "appdata" / "log",
    )
    stored = create_buffer(settings)
    stored.recover()
    with TestClient(create_app(stored, max_body=1000)) as client:
        yield client


def put_segment(client: TestClient, second: int) -> None:
    assert client.post("/sendF", json={"h": [1e-21, 2e-21], "t": [second, 0.5]}).status_code == 201


def as_in_a_cluster(volumes: Path) -> None:
    """Make mount points belong to root, and files to the images' user, as the kubelet and the buffer do."""
    if os.geteuid() == 0:
        for path in volumes.rglob("*"):
            os.chown(path, UID, UID)
        (volumes / "appdata").chmod(0o755)
        os.chown(volumes / "appdata", 0, 0)
        for mount in (volumes / "datavar", volumes / "appdata" / "adm", volumes / "appdata" / "log"):
            os.chown(mount, 0, UID)
            mount.chmod(0o2775)


@pytest.fixture
def place() -> Iterator[Path]:
    """Yield a folder that the images' user may enter, unlike one of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="glitchflow-backup-"))
    folder.chmod(0o755)
    for name, text in (("kubectl", KUBECTL), ("docker-compose", KUBECTL), ("make", "#!/bin/sh\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def section() -> list[str]:
    """Return the command blocks for one archive, for everything, for the restore, and those for one machine."""
    text = (ROOT / "docs" / "deployment.md").read_text()
    found = re.findall(r"```sh\n(.*?)```", text.partition("## Backup and restore")[2].partition("\n## ")[0], re.DOTALL)
    assert len(found) == 7
    return list(found)


def run(commands: str, volumes: Path, place: Path) -> str:
    """Run the commands of a block; the first that fails ends the test."""
    environment = {
        **os.environ,
        "PATH": f"{place}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "VOLUMES": str(volumes),
        "PYTHONPATH": str(ROOT),
        # The environment of the image, at the place of its volumes.
        "DTVOLROOT": f"{volumes}/datavar",
        "DATAROOT": f"{volumes}/datavar/data",
        "ADMROOT": f"{volumes}/appdata/adm",
        "LOGROOT": f"{volumes}/appdata/log",
    }
    done = subprocess.run(
        ["sh", "-e", "-c", commands],  # noqa: S607 (the system's)
        cwd=place,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("blocks", [slice(1, 3), slice(5, 7)], ids=["Kubernetes", "Compose"])
def test_a_backup_as_written_restores_every_segment_as_written(place: Path, blocks: slice) -> None:
    backup, restore = section()[blocks]
    old, new = place / "old", place / "new"
    with buffer(old) as client:
        put_segment(client, 0)
        put_segment(client, 1)
        assert client.post("/cleanall").status_code == 201
        put_segment(client, 2)
        before = client.get("/segments").json()["segments"]
        batches = client.get("/batches").json()["batches"]
    assert len(before) == 3
    if "rm -rf" in restore:  # a new buffer has run, as on a cluster that the overlay was just applied to
        with buffer(new) as client:
            assert client.get("/segments").json()["segments"] == []
    for folder in ("datavar", "appdata/adm", "appdata/log"):  # the mount points
        (new / folder).mkdir(parents=True, exist_ok=True)
    for volumes in (old, new):
        as_in_a_cluster(volumes)
    run(backup, old, place)
    assert "[missing]" not in run(restore, new, place)
    with buffer(new) as client:
        assert client.get("/segments").json()["segments"] == before
        assert client.get("/batches").json()["batches"] == batches
        for segment in before:
            body = client.get(f"/segments/{segment['name']}").content
            assert hashlib.sha256(body).hexdigest() == segment["sha256"]


def test_archives_are_listed_copied_and_verified_as_written(place: Path) -> None:
    archives, *_ = section()
    volumes = place / "volumes"
    listing, *rest = archives.splitlines()
    with buffer(volumes) as client:
        put_segment(client, 1)
        as_in_a_cluster(volumes)
        assert run(listing, volumes, place) == ""  # nothing is archived yet, and that is not an error
        client.post("/cleanall")
    as_in_a_cluster(volumes)
    (path,) = run(listing, volumes, place).splitlines()
    name = Path(path).name
    (seen,) = set(re.findall(r"20\d\d-[^\".]*", archives)) - {""}
    run("\n".join(rest).replace(seen, name), volumes, place)
    names = subprocess.run(["tar", "-tf", f"{name}.tar"], cwd=place, check=True, capture_output=True, text=True)  # noqa: S607 (the system's)
    assert f"{name}/MANIFEST.json" in names.stdout.splitlines()


def test_an_archive_that_was_moved_away_is_forgotten_and_the_rest_stays(tmp_path: Path) -> None:
    with buffer(tmp_path) as client:
        put_segment(client, 1)
        client.post("/cleanall")
        put_segment(client, 2)
    (archive,) = (tmp_path / "datavar").glob("20*")
    archive.rename(tmp_path / "elsewhere")
    with buffer(tmp_path) as client:
        (left,) = client.get("/segments").json()["segments"]
    assert left["t0"] == 2.0

"""The whole workflow in containers, from the client's shell."""

import json
import os
import subprocess
from pathlib import Path

import h5py
import pytest

from scripts.engine import ROOT
from scripts.stack import Stack
from tests.support.containers import Container
from tests.support.segments import segment_body
from tools.clients import Connection

pytestmark = pytest.mark.timeout(900)


def run_once(stack: Stack, *words: str) -> str:
    """Run a service's container once, with options of `docker-compose run` before its name; return what it printed."""
    run = [*stack.compose, "run", "--rm", "-T", *words]
    done = subprocess.run(run, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def test_push_freeze_preprocess_and_clean(stack: Stack, client: Container, tmp_path: Path) -> None:
    assert json.loads(client.run("stats.sh"))["n_itm"] == 0
    assert json.loads(client.run("train.sh", "alice", "secret")) == {"resp": "WAITING"}
    pushed = json.loads(client.run("gwclient", "simulate", "--seconds", "64", "--json"))
    assert pushed["acknowledged"] == 128
    frozen = json.loads(client.run("train.sh", "alice", "secret"))
    assert (frozen["resp"], frozen["n_f"], frozen["bt_wrt"]) == ("FROZEN", 128, pushed["bytes"])
    assert json.loads(client.run("streamdata.sh", data=segment_body(1)))["resp"] == "FROZEN"
    # Another seed: segments that are stored already would be acknowledged.
    client.run("gwclient", "simulate", "--seconds", "1", "--seed", "2", expect=1)

    assert "usage: python -m preproc [-h] COMMAND" in run_once(stack, "preproc", "--help")
    said = run_once(stack, "preproc")
    assert "128 files" in said
    assert frozen["digest"].startswith(said.split("digest ")[1].split()[0])
    packed = run_once(stack, "--entrypoint", "tar", "preproc", "-C", "/dataset", "-cvf", "/dev/null", ".")
    mine, folder = f"{os.getuid()}:{os.getgid()}", tmp_path / "out"
    folder.mkdir()
    run_once(stack, "--user", mine, "-v", f"{folder}:/out", "preproc", "run", "--out", "/out/{batch}")
    with h5py.File(folder / frozen["batch"] / "dataset.h5") as file:
        assert file["data"].shape == (10, 2, 64, 256)
        assert [name.decode() for name in file["channels"]] == ["H1:SIM-STRAIN", "L1:SIM-STRAIN"]
    assert f"./{frozen['batch']}/dataset.h5" in packed

    assert json.loads(client.run("cleanbuf.sh", "the story is over"))["resp"] == "CLEANED"
    assert json.loads(client.run("desc.sh")) == {"resp": "OPERATIONAL"}
    batches = Connection(stack.url).get("/batches")["batches"]
    [archived] = [batch for batch in batches if batch["id"] == frozen["batch"]]
    buffer = Container(stack.container("databuff"))
    verified = buffer.run("python", "-m", "databuffer", "verify", f"/datavar/{archived['path']}")
    assert f"digest {frozen['digest']}" in verified


def test_recorded_strain_arrives_from_files_of_this_machine_and_the_next_container_sends_none_of_it_again(
    stack: Stack, client: Container, gw150914_files: dict[str, Path]
) -> None:
    (folder,) = {path.parent for path in gw150914_files.values()}
    files = [word for path in gw150914_files.values() for word in ("--file", f"/data/{path.name}")]
    push = ["-v", f"{folder}:/data:ro", "client", "gwclient", "push", *files, "--json"]
    assert json.loads(run_once(stack, *push))["acknowledged"] == 64
    assert json.loads(client.run("stats.sh"))["n_itm"] == 64
    assert json.loads(run_once(stack, *push))["acknowledged"] == 0
    assert json.loads(client.run("cleanbuf.sh"))["resp"] == "CLEANED"

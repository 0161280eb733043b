"""The whole way of the data through containers, told from the client's shell."""

import json
import subprocess
from pathlib import Path

import pytest

from scripts.engine import ROOT
from scripts.stack import Stack
from tests.support.containers import Container
from tests.support.segments import segment_body
from tools.clients import Connection

pytestmark = pytest.mark.timeout(900)


def preprocess(stack: Stack, *command: str) -> str:
    """Run the preproc service once; gives what it said."""
    run = [*stack.compose, "run", "--rm", "-T", "preproc", *command]
    done = subprocess.run(run, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


def test_push_freeze_preprocess_and_clean(stack: Stack, client: Container) -> None:
    assert json.loads(client.run("stats.sh"))["n_itm"] == 0
    assert json.loads(client.run("train.sh", "alice", "secret")) == {"resp": "WAITING"}
    pushed = json.loads(client.run("gwclient", "simulate", "--seconds", "64", "--json"))
    assert pushed["acknowledged"] == 128
    frozen = json.loads(client.run("train.sh", "alice", "secret"))
    assert (frozen["resp"], frozen["n_f"], frozen["bt_wrt"]) == ("FROZEN", 128, pushed["bytes"])
    assert json.loads(client.run("streamdata.sh", data=segment_body(1)))["resp"] == "FROZEN"
    # Another seed: what is stored already would be acknowledged.
    client.run("gwclient", "simulate", "--seconds", "1", "--seed", "2", expect=1)

    said = preprocess(stack)
    assert "128 files" in said
    assert frozen["digest"].startswith(said.split("digest ")[1].split()[0])
    look = (
        f"import h5py; f = h5py.File('/dataset/{frozen['batch']}/dataset.h5'); "
        "print(f['data'].shape, [c.decode() for c in f['channels']])"
    )
    assert preprocess(stack, "python", "-c", look).strip() == "(10, 2, 64, 256) ['H1:SIM-STRAIN', 'L1:SIM-STRAIN']"

    assert json.loads(client.run("cleanbuf.sh", "the story is over"))["resp"] == "CLEANED"
    assert json.loads(client.run("desc.sh")) == {"resp": "OPERATIONAL"}
    batches = Connection(stack.url).get("/batches")["batches"]
    [archived] = [batch for batch in batches if batch["id"] == frozen["batch"]]
    buffer = Container(stack.container("databuff"))
    verified = buffer.run("python", "-m", "databuffer", "verify", f"/datavar/{archived['path']}")
    assert f"digest {frozen['digest']}" in verified


def test_recorded_strain_arrives_from_files_in_the_clients_container(
    client: Container, gw150914_files: dict[str, Path]
) -> None:
    for path in gw150914_files.values():
        client.run("sh", "-c", f"cat > /tmp/{path.name}", data=path.read_bytes())
    files = [word for path in gw150914_files.values() for word in ("--file", f"/tmp/{path.name}")]  # noqa: S108 (its own)
    pushed = json.loads(client.run("gwclient", "push", *files, "--json"))
    assert pushed["acknowledged"] == 64
    assert json.loads(client.run("stats.sh"))["n_itm"] == 64
    assert json.loads(client.run("cleanbuf.sh"))["resp"] == "CLEANED"

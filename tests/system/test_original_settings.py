"""The container environments of the original system start every service unchanged, in every notation."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from urllib3.exceptions import HTTPError

from scripts.trio import Ports, free_ports
from tests.support.segments import segment_body
from tools.clients import Connection

ROOT = Path(__file__).parents[2]


def environments(ports: Ports) -> dict[str, dict[str, str]]:
    """Return names without a slash, addresses and folders with one, and the data folder in place of a name."""
    return {
        "databuffer": {
            "ADMROOT": "appdata/adm/",
            "ADMFNM": "StatDesc.json",
            "DSST": "Dsstat.json",
            "DTVOLROOT": "data/",
            "DATAROOT": "data/datavar/",
            "DATANM": "data/datavar",
            "LOGROOT": "appdata/log/",
            "LOGSTREAM": "LogStream.json",
            "SERVURL": f":{ports.buffer}",
            "WCHSZ": "10",
        },
        "dslogic": {
            "ENDP_STAT": "stat",
            "ENDP_DUMP": "dumpLogF",
            "ENDP_DUMPF": "dumpF",
            "ENDP_SEND": "sendF",
            "ENDP_DESC": "dstat",
            "ENDP_UPD_DESC": "upddsc",
            "ENDP_CLEAN": "cleanall",
            "DB_BURL": f"http://127.0.0.1:{ports.buffer}/",
            "MAX_SIZE": "100",
        },
        "glitchflow_api": {
            "DS_STAT": "bufstat",
            "DS_DUMPF": "dumpf",
            "DS_SEND": "stream",
            "DS_DESC": "dsdesc",
            "DS_FREEZE": "freezeds",
            "DS_FLUSH": "flushbuf",
            "LISTEN": f"127.0.0.1:{ports.api}",
            "DS_BURL": f"http://127.0.0.1:{ports.logic}/",
        },
    }


def commands(ports: Ports) -> dict[str, list[str]]:
    logic = ["-c", str(ROOT / "dslogic/gunicorn.conf.py"), "-b", f"127.0.0.1:{ports.logic}"]
    return {
        "databuffer": [sys.executable, "-m", "databuffer"],
        "dslogic": [sys.executable, "-m", "gunicorn", *logic, "dslogic.app:create_app('default')"],
        "glitchflow_api": [sys.executable, "-m", "glitchflow_api"],
    }


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Connection]:
    """Start the trio in an empty working directory; stopped when the test ends."""
    ports = free_ports()
    with ExitStack() as stack:
        for name, command in commands(ports).items():
            environment = {"PATH": "/usr/bin:/bin", **environments(ports)[name]}
            process = stack.enter_context(subprocess.Popen(command, cwd=tmp_path, env=environment))
            stack.callback(process.terminate)
        connection = Connection(f"http://127.0.0.1:{ports.api}")
        while not is_ready(connection):
            time.sleep(0.1)
        yield connection


def is_ready(connection: Connection) -> bool:
    try:
        return connection.status("/readyz") == 200
    except HTTPError:
        return False


def test_the_originals_environments_push_freeze_and_clean(gateway: Connection, tmp_path: Path) -> None:
    status, stored = gateway.post("/streamdata", segment_body(1))
    assert (status, stored["resp"]) == (200, "CREATED")
    name = stored["body"].split()[1]
    assert name.startswith("gwb")
    assert [path.name for path in (tmp_path / "data/datavar").iterdir()] == [name]
    assert (
        gateway.get("/stats")["n_itm"] == 1 == json.loads((tmp_path / "appdata/adm/StatDesc.json").read_text())["n_itm"]
    )
    assert gateway.get("/dumpbuf") == {"nmlist": [name]}
    assert gateway.post("/train", b'{"user":"alice","token":"t"}')[1]["resp"] == "WAITING"
    gateway.post("/streamdata", segment_body(2))
    assert gateway.post("/train", b'{"user":"alice","token":"t"}')[1]["n_f"] == 2
    assert gateway.get("/desc") == {"resp": "FROZEN"}
    assert gateway.post("/streamdata", segment_body(3))[1]["resp"] == "FROZEN"
    assert gateway.post("/cleanbuf", b'{"msg":"done"}')[1]["resp"] == "CLEANED"
    assert gateway.get("/stats")["n_itm"] == 0

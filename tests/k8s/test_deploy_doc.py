"""docs/deploy.md: what it tells to type exists, its overlay renders, its sizes are right, its backup restores."""

import hashlib
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]  # it ships no types
import pytest
import yaml
from fastapi.testclient import TestClient

from databuffer.__main__ import main as databuffer
from databuffer.app import create_app, create_buffer
from databuffer.settings import BufferSettings
from gwclient.cli import gwclient
from tests.support.manifest_rules import SETTINGS
from tests.support.manifests import K8S, ROOT, Manifests, manifests, render, why_not_rendered

if reason := why_not_rendered():
    pytest.skip(reason, allow_module_level=True)

TEXT = (ROOT / "docs" / "deploy.md").read_text()
KINDS = {
    "statefulset": "StatefulSet",
    "deployment": "Deployment",
    "service": "Service",
    "cronjob": "CronJob",
    "pod": "Pod",
    "pvc": "PersistentVolumeClaim",
}


def everything() -> Manifests:
    folders = ("overlays/dev", "base/gwclient", "maintenance")
    return Manifests([thing for folder in folders for thing in manifests(folder).objects])


def told_commands() -> Iterator[str]:
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL):
        yield from (line for line in block.splitlines() if not line.startswith("#"))
    yield from re.findall(r"`((?:kubectl|gwclient|python -m|make) [^`]+)`", TEXT)


def words(program: str) -> list[list[str]]:
    """Give the told commands of a program, without what the shell does with them."""
    found = [shlex.split(line.partition("  #")[0]) for line in told_commands() if program in line]
    return [line for line in found if line]


KUBECTL = [line for line in words("kubectl") if line[0] == "kubectl"]


@cache
def known_flags(verb: tuple[str, ...]) -> set[str]:
    told = [
        subprocess.run(["kubectl", *ask], capture_output=True, text=True, check=True).stdout  # noqa: S607 (the one there is)
        for ask in ([*verb, "--help"], ["options"])
    ]
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", "\n".join(told)))


@pytest.mark.parametrize("line", KUBECTL, ids=[str(number) for number in range(len(KUBECTL))])
def test_kubectl_knows_every_verb_and_option(line: list[str]) -> None:
    own = line[1 : line.index("--")] if "--" in line else line[1:]
    for sign in (">", "|", "<"):
        own = own[: own.index(sign)] if sign in own else own
    rest = own[2:] if own[0] == "-n" else own
    nested = {"rollout", "create"}
    verb = tuple(rest[:2]) if rest[0] in nested else (rest[0],)
    verb = tuple(rest[:3]) if rest[:2] == ["create", "secret"] else verb
    flags = {word.partition("=")[0] for word in own if word.startswith("-")}
    assert flags - {"-n", "-k"} <= known_flags(verb), line
    if "-k" in own and own[-1] != "-k":
        path = own[own.index("-k") + 1]
        assert path == "site" or (ROOT / path / "kustomization.yaml").is_file(), path
    if own[0] == "-n":
        assert own[1] == "glitchflow"


def test_every_object_named_is_there() -> None:
    found = everything()
    jobs = {line[line.index("job") + 1] for line in KUBECTL if "create" in line and "job" in line} | {"NAME"}
    for line in KUBECTL:
        for word in line:
            kind, slash, name = (
                word.partition("=")[2].partition("/") if word.startswith("--from=") else word.partition("/")
            )
            if slash and kind == "job":
                assert name in jobs, line
            elif slash and kind in KINDS and name != "databuffer-0":
                assert name in found.names(KINDS[kind]), line
    assert "databuffer" in found.names("StatefulSet")
    for name in re.findall(r"the claims? `([a-z-]+)`|claims `[a-z-]+` and `([a-z-]+)`", TEXT):
        assert set(name) - {""} <= found.names("PersistentVolumeClaim")
    configs = {name[:-11] for name in found.names("ConfigMap")}
    assert set(re.findall(r"`([a-z]+-settings)`", TEXT)) <= configs
    assert {name for name in re.findall(r"\b([A-Z]+_[A-Z]+)\b", TEXT) if not name.startswith("IMAGE_")} <= {
        name for settings in SETTINGS.values() for name in settings.model_fields
    }
    for path in re.findall(r"`(k8s/[\w/.]+)`", TEXT):
        assert (ROOT / path).exists(), path


def test_the_client_and_the_buffer_take_what_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    inside = [line[line.index("--") + 1 :] for line in KUBECTL if "--" in line]
    told = [line for line in [*inside, *words("gwclient")] if line[0] == "gwclient"]
    assert len(told) >= 5
    for line in told:
        name, *arguments = line[1:]
        options = {option for parameter in gwclient.commands[name].params for option in parameter.opts}
        assert {word for word in arguments if word.startswith("--")} <= options, line
    for command in re.findall(r"python -m databuffer (\w+)", TEXT):
        with pytest.raises(SystemExit) as ended:
            databuffer([command, "--help"])
        assert ended.value.code == 0
    assert "--repair" in capsys.readouterr().out


def test_the_sites_overlay_renders_and_is_valid(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "kustomization.yaml").write_text(block.replace("../k8s", os.path.relpath(K8S, tmp_path.resolve())))
    found = Manifests(render(tmp_path))
    for thing in found.objects:
        kubernetes_validate.validate(thing, kubernetes_validate.latest_version(), strict=True)
    images = {container["image"] for work in found.workloads() for container in work.containers}
    assert all(image.startswith("registry.example.org/glitchflow/") for image in images)
    assert found.one("Ingress", "gflapi")["spec"]["rules"][0]["host"] == "gwdata.example.org"
    assert len({image["name"] for image in yaml.safe_load(block)["images"]}) == 5


def test_the_sizes_are_the_manifests() -> None:
    found = manifests("overlays/cluster")
    wanted = {
        {"glitchflow-api": "gateway"}.get(container["name"], container["name"]): [
            f"{container['resources'][kind]['cpu']}, {container['resources'][kind]['memory']}"
            for kind in ("requests", "limits")
        ]
        for work in found.workloads()
        for container in work.containers
    }
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| ")
    ]
    assert {row[0]: row[1:3] for row in rows if row[0] in wanted} == wanted


def told_tar(*, create: bool) -> list[str]:
    """Give tar's arguments as the document has them."""
    (line,) = (
        line for line in told_commands() if "glitchflow.tar" in line and ("-cf" in line) is create and "tar -C" in line
    )
    return shlex.split(re.split(" [<>] ", line.partition(" -- tar ")[2])[0])


@contextmanager
def buffer(home: Path) -> Iterator[TestClient]:
    """Give a buffer whose volumes are under `home`, for as long as its pod would run."""
    settings = BufferSettings(
        DTVOLROOT=home / "datavar",
        DATAROOT=home / "datavar" / "data",
        ADMROOT=home / "appdata" / "adm",
        LOGROOT=home / "appdata" / "log",
    )
    stored = create_buffer(settings)
    stored.state.recover()
    with TestClient(create_app(stored, max_body=1000)) as client:
        yield client


def put_segment(client: TestClient, second: int) -> None:
    assert client.post("/sendF", json={"h": [1e-21, 2e-21], "t": [second, 0.5]}).status_code == 201


def test_a_backup_as_told_restores_every_segment_as_told(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    with buffer(old) as client:
        put_segment(client, 0)
        put_segment(client, 1)
        assert client.post("/cleanall").status_code == 201
        put_segment(client, 2)
        before = client.get("/segments").json()["segments"]
    assert len(before) == 3
    # A fresh buffer has been there, as on a cluster that the overlay was just applied to.
    with buffer(new) as client:
        assert client.get("/segments").json()["segments"] == []
    archive = subprocess.run(
        ["tar", *(str(old) if word == "/" else word for word in told_tar(create=True))],  # noqa: S607 (the system's)
        check=True,
        capture_output=True,
    ).stdout
    (empty,) = re.findall(r"sh -c '(rm -rf [^']+)'", TEXT)
    subprocess.run(["sh", "-c", empty.replace(" /", f" {new}/")], check=True)  # noqa: S607 (the system's)
    subprocess.run(
        ["tar", *(str(new) if word == "/" else word for word in told_tar(create=False))],  # noqa: S607 (the system's)
        input=archive,
        check=True,
    )
    with buffer(new) as client:
        assert client.get("/segments").json()["segments"] == before
        for segment in before:
            body = client.get(f"/segments/{segment['name']}").content
            assert hashlib.sha256(body).hexdigest() == segment["sha256"]


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

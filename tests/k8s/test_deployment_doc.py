"""docs/deployment.md: its commands exist, its overlay renders, its sizes are right; the commands of other documents."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import kubernetes_validate  # type: ignore[import-untyped]  # it ships no types
import pytest
import yaml

from databuffer.__main__ import main as databuffer
from gwclient.cli import gwclient
from tests.support.manifest_rules import SETTINGS
from tests.support.manifests import K8S, ROOT, Manifests, manifests, render, why_not_rendered

if reason := why_not_rendered():
    pytest.skip(reason, allow_module_level=True)

TEXT = (ROOT / "docs" / "deployment.md").read_text()
DOCUMENTS = {
    name: (ROOT / name).read_text()
    for name in (
        *("docs/deployment.md", "docs/operations.md", "docs/problems.md", "docs/cluster-test.md"),
        *(
            "docs/security.md",
            "docs/getting-started.md",
            "docs/development.md",
            "docs/tiers.md",
            "README.md",
            "k8s/README.md",
        ),
    )
}
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


def blocks(text: str) -> list[str]:
    return [found.replace("\\\n", "") for found in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)]


def commands(text: str) -> Iterator[str]:
    """Yield each command of a document, of its blocks and of its sentences."""
    for block in blocks(text):
        yield from (line for line in block.splitlines() if not line.startswith("#"))
    yield from re.findall(r"`((?:kubectl|gwclient|python -m|make|[A-Z_]+=\S+|\.venv/bin/\S+) [^`]+)`", text)


def words(program: str, text: str = TEXT) -> list[list[str]]:
    """Return the commands that call a program, without comments."""
    found = [shlex.split(line, comments=True) for line in commands(text) if program in line]
    return [line for line in found if line]


#: Each command of kubectl in the documents, once.
KUBECTL = [
    list(line)
    for line in dict.fromkeys(
        tuple(line[line.index("kubectl") :])
        for text in DOCUMENTS.values()
        for line in words("kubectl", text)
        if "kubectl" in line
    )
]


@cache
def known_flags(verb: tuple[str, ...]) -> set[str]:
    """Return the options that a command of kubectl prints."""
    seen = subprocess.run(["kubectl", *verb], capture_output=True, text=True, check=True).stdout  # noqa: S607 (the one there is)
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", seen))


@pytest.mark.parametrize("line", KUBECTL, ids=[str(number) for number in range(len(KUBECTL))])
def test_kubectl_knows_every_verb_and_option(line: list[str]) -> None:
    own = line[1 : line.index("--")] if "--" in line else line[1:]
    for sign in (">", "|", "<"):
        own = own[: own.index(sign)] if sign in own else own
    rest = own[2:] if own[0] == "-n" else own
    nested = {"rollout", "create"}
    verb = tuple(rest[:2]) if rest[0] in nested else (rest[0],)
    verb = tuple(rest[:3]) if rest[:2] == ["create", "secret"] else verb
    flags = {word.partition("=")[0] for word in own if re.match("--?[a-z]", word)}
    assert flags - {"-n", "-k"} <= known_flags((*verb, "--help")) | known_flags(("options",)), line
    if "-k" in own and own[-1] != "-k":
        path = own[own.index("-k") + 1]
        assert path == "site" or (ROOT / path / "kustomization.yaml").is_file(), path
    if own[0] == "-n":
        assert own[1] in {"glitchflow", "monitoring"}


@pytest.mark.parametrize("line", [line for line in KUBECTL if "logs" in line], ids=" ".join)
def test_logs_are_those_of_every_pod(line: list[str]) -> None:
    # `logs deployment/NAME` prints the log of one of its pods, and the request may have been another's.
    assert not any(word.startswith(("deployment/", "deploy/")) for word in line)
    if "-l" in line:
        key, _, value = line[line.index("-l") + 1].partition("=")
        assert any(work.labels.get(key) == value for work in everything().workloads())
        assert "--prefix" in line


@pytest.mark.parametrize("document", DOCUMENTS)
def test_our_programs_are_called_where_make_setup_puts_them(document: str) -> None:
    ours = re.compile(r"(?<![\w/.-])(?:gwclient \w|glitchflow-keys |python -m (?:scripts|tools|databuffer))")
    typed = [line for block in blocks(DOCUMENTS[document]) for line in block.splitlines()]
    # In a sentence a command is often only named; one with a file of the user is meant to be typed.
    typed += [line for line in commands(DOCUMENTS[document]) if re.search(r"keys/|FILE|\.pem", line)]
    for line in typed:
        if " exec " not in line and "docker-compose" not in line and not line.startswith("#"):
            assert not ours.search(line.partition("#")[0].replace("pod/gwclient", "")), line


def test_make_setup_comes_before_what_it_installs() -> None:
    (block,) = (block for block in blocks(TEXT) if "overlays/local" in block)
    before = TEXT.partition(block)[0] + block.partition(".venv/bin/")[0]
    assert "make setup" in before[before.rindex("\n## ") :]


def test_a_pod_is_waited_for_before_a_command_runs_in_it() -> None:
    for text in DOCUMENTS.values():
        for block in blocks(text):
            lines = block.splitlines()
            for pod, folder in {"gwclient": "k8s/base/gwclient", "maintenance": "k8s/maintenance"}.items():
                started = [number for number, line in enumerate(lines) if line == f"kubectl apply -k {folder}"]
                used = [number for number, line in enumerate(lines) if f"exec {pod} " in line]
                if started and used:
                    ready = f"kubectl -n glitchflow wait --for=condition=Ready pod/{pod} --timeout=5m"
                    assert started[0] < lines.index(ready) < used[0], block


def test_a_pod_that_is_applied_separately_takes_the_sites_images() -> None:
    (line,) = (line for line in commands(TEXT) if line.startswith("kubectl kustomize"))
    for folder in ("k8s/maintenance", "k8s/base/gwclient"):
        seen = line.replace("k8s/maintenance", folder).removesuffix(" | kubectl apply -f -")
        rendered = subprocess.run(["sh", "-c", seen], cwd=ROOT, check=True, capture_output=True, text=True).stdout  # noqa: S607 (the system's)
        pods = Manifests([thing for thing in yaml.safe_load_all(rendered) if thing]).workloads()
        images = [container["image"] for pod in pods for container in pod.containers]
        assert all(image.startswith("registry.example.org/glitchflow/") for image in images)
        assert len(images) == 1


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
    known = {name for settings in SETTINGS.values() for name in settings.model_fields}
    known |= set(re.findall(r"\$\{([A-Z_]+)", (ROOT / "docker-compose.yml").read_text())) | {"COMPOSE_FILE"}
    assert set(re.findall(r"\b([A-Z]+_[A-Z]+)\b", TEXT)) <= known
    for path in re.findall(r"`(k8s/[\w/.]+)`", TEXT):
        assert (ROOT / path).exists(), path


def test_the_client_and_the_buffer_accept_their_commands(capsys: pytest.CaptureFixture[str]) -> None:
    inside = [line[line.index("--") + 1 :] for line in KUBECTL if "--" in line]
    outside = [[Path(line[0]).name, *line[1:]] for line in words("gwclient")]
    seen = [line for line in [*inside, *outside] if line[0] == "gwclient"]
    assert len(seen) >= 5
    for line in seen:
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

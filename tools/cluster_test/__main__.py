"""`make test-cluster CLUSTER=name`: test the manifests and images on a real Kubernetes.

Uses two namespaces, which it removes: glitchflow-test-XXXXXX, and another for a client outside. Settings:

  CLUSTER       the kubectl context to use; it must be the current one, which prevents mistakes
  IMAGE_PREFIX  registry and path of the images (default: glitchflow)
  IMAGE_TAG     their tag (default: the project's version)
  KEEP          set: keep the namespaces

Exit status: 0 every step passed, 1 a step failed, 2 not started.
"""

import os
import secrets
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.cluster_test.errors import ClusterTestError, KubectlFailed, Refused
from tools.cluster_test.kubectl import Kubectl
from tools.cluster_test.overlay import write_overlay
from tools.cluster_test.report import Result, Row, section, table, write_section
from tools.cluster_test.steps import FIRST, STEPS, Step, Trial

_ROOT = Path(__file__).parents[2]
_DOCUMENT = _ROOT / "docs" / "cluster-test.md"
_REMOVAL_SECONDS = 300.0


@dataclass(frozen=True)
class Plan:
    """The images to test and the cluster to use."""

    context: str
    prefix: str
    tag: str
    keep: bool


def read_plan(environment: Mapping[str, str], current_context: str) -> Plan:
    """Read the settings.

    Raises:
        Refused: no context was named, or it is not the current one.

    """
    named = environment.get("CLUSTER", "")
    if not named:
        raise Refused(f"name the cluster: CLUSTER=CONTEXT (the current context is {current_context or 'none'})")
    if named != current_context:
        raise Refused(f"CLUSTER={named} is not the current context, which is {current_context or 'none'}")
    version = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]["version"]
    return Plan(
        named,
        environment.get("IMAGE_PREFIX", "").rstrip("/") or "glitchflow",
        environment.get("IMAGE_TAG", "") or version,
        bool(environment.get("KEEP")),
    )


def current_context() -> str:
    """Return the current context of kubectl, or an empty text if there is none."""
    try:
        done = subprocess.run(
            ["kubectl", "config", "current-context"],  # noqa: S607 (the kubectl on the PATH)
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        raise Refused("kubectl is not installed") from None
    return done.stdout.strip()


def run_steps(trial: Trial, steps: Mapping[str, Step]) -> Iterator[Row]:
    """Run the steps one after the other; a step that fails does not stop the others."""
    for name, step in steps.items():
        print(f"{name} ...", flush=True)
        begun = time.monotonic()
        try:
            result, seen = Result.PASSED, step(trial)
        except ClusterTestError as error:
            result, seen = Result.FAILED, str(error)
        except Exception as error:  # noqa: BLE001 (an answer of another shape than expected is a failed step, not the end of the test)
            result, seen = Result.FAILED, repr(error)
        row = Row(name, result, seen, time.monotonic() - begun)
        print(f"  {row.result} after {row.seconds:.0f} s: {row.seen}", flush=True)
        yield row


def run_all(trial: Trial) -> list[Row]:
    """Run all steps; if one of the first fails, the others are not run."""
    rows = list(run_steps(trial, FIRST))
    if all(row.result is Result.PASSED for row in rows):
        return rows + list(run_steps(trial, STEPS))
    return rows + [Row(name, Result.NOT_RUN, "the trio does not run", 0) for name in STEPS]


def _claim_namespaces(trial: Trial) -> None:
    """Create the outside namespace; the other one is created with the overlay, and must not exist."""
    space = trial.kubectl.namespace
    if trial.kubectl.run("get", "namespace", space, "--ignore-not-found", "--output=name").strip():
        raise Refused(f"namespace {space} exists already")
    trial.outside.run("create", "namespace", trial.outside.namespace)


def _remove_namespaces(trial: Trial) -> None:
    """Request the removal of both, then wait, so that one that hangs does not keep the other."""
    spaces = [trial.kubectl.namespace, trial.outside.namespace]
    trial.kubectl.try_run("delete", "namespace", *spaces, "--ignore-not-found", "--wait=false")
    limit = f"--timeout={_REMOVAL_SECONDS:.0f}s"
    waiting = ["wait", "--for=delete", *(f"namespace/{space}" for space in spaces), limit]
    done = trial.kubectl.try_run(*waiting, seconds=2 * _REMOVAL_SECONDS + 30)
    if done.returncode:
        sys.stderr.write(f"namespaces {' and '.join(spaces)} are not removed: {done.stderr.strip()}\n")


def _print_state(trial: Trial) -> None:
    """Print pods, events and the end of the logs before they are removed."""
    for question in (
        ["get", "pods", "--output=wide"],
        ["get", "events", "--sort-by=.lastTimestamp"],
        *(["logs", f"--selector=app.kubernetes.io/name={name}", "--tail=20"] for name in ("databuffer", "dslogic")),
        ["logs", "--selector=app.kubernetes.io/name=glitchflow-api", "--tail=20"],
    ):
        done = trial.kubectl.try_run(*question)
        sys.stderr.write(f"--- kubectl {' '.join(question)}\n{done.stdout[-4000:]}{done.stderr}\n")


def _circumstances(trial: Trial, plan: Plan) -> list[str]:
    nodes: list[dict[str, Any]] = trial.kubectl.read("get", "nodes")["items"]
    kinds = sorted(
        {f"{node['status']['nodeInfo']['osImage']}, {node['status']['nodeInfo']['kubeletVersion']}" for node in nodes}
    )
    return [
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, `make test-cluster`, images {plan.prefix}/*:{plan.tag}",
        f"{len(nodes)} {'nodes' if len(nodes) > 1 else 'node'}: {'; '.join(kinds)}",
    ]


def run(plan: Plan, folder: Path) -> int:
    """Run the test, write the table and remove the namespaces; return the exit status."""
    space = f"glitchflow-test-{secrets.token_hex(3)}"
    trial = Trial(
        Kubectl(plan.context, space),
        Kubectl(plan.context, f"{space}-outside"),
        folder,
        f"{plan.prefix}/gwclient:{plan.tag}",
    )
    write_overlay(folder, space, plan.prefix, plan.tag)
    print(f"context {plan.context}, namespace {space}, images {plan.prefix}/*:{plan.tag}", flush=True)
    _claim_namespaces(trial)
    try:
        rows = run_all(trial)
        passed = all(row.result is Result.PASSED for row in rows)
        if not passed:
            _print_state(trial)
        print("\n".join(table(rows)))
        write_section(_DOCUMENT, section(_circumstances(trial, plan), rows))
    finally:
        if not plan.keep:
            _remove_namespaces(trial)
    return 0 if passed else 1


def main() -> int:
    """Read the settings and run the test; return the exit status."""
    try:
        plan = read_plan(os.environ, current_context())
        with tempfile.TemporaryDirectory(prefix="cluster-test-") as folder:
            return run(plan, Path(folder))
    except Refused as refused:
        sys.stderr.write(f"test-cluster: {refused}\n")
        return 2
    except KubectlFailed as failed:
        sys.stderr.write(f"test-cluster: {failed}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())

"""The DAG: parsed as source without Airflow, imported if Airflow is installed."""

import ast
import importlib.util
import itertools
from types import SimpleNamespace
from typing import Any

import pytest

from preproc.cli import main as preproc
from tests.support.manifests import ROOT

FILE = ROOT / "examples" / "airflow" / "trainpipe.py"
TREE = ast.parse(FILE.read_text())
EDGES = {
    ("wait_for_data", "ask_for_batch"),
    ("ask_for_batch", "decide"),
    ("decide", "wait_for_dataset"),
    ("decide", "not_yet"),
    ("wait_for_dataset", "clean"),
}


def function(name: str) -> ast.FunctionDef:
    return next(node for node in ast.walk(TREE) if isinstance(node, ast.FunctionDef) and node.name == name)


def constant(name: str) -> Any:
    node = next(
        node
        for node in TREE.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name
    )
    return ast.literal_eval(node.value)


def operators() -> dict[str, tuple[str, dict[str, ast.expr]]]:
    """Return each operator's class and arguments by its task_id."""
    calls = [node for node in ast.walk(function("trainpipe")) if isinstance(node, ast.Call)]
    found = {}
    for call in calls:
        told = {word.arg: word.value for word in call.keywords if word.arg}
        if isinstance(call.func, ast.Name) and "task_id" in told:
            found[ast.literal_eval(told["task_id"])] = (call.func.id, told)
    return found


def pure(name: str) -> Any:
    """Return a function of the file that does not need Airflow."""
    module = ast.Module([function(name)], type_ignores=[])
    space: dict[str, Any] = {"Any": Any, "STEP": constant("STEP")}
    exec(compile(module, FILE.name, "exec"), space)  # noqa: S102 (the file cannot be imported without Airflow)
    return space[name]


def named_edges() -> set[tuple[str, str]]:
    """Return the edges that `a >> b` in the file define, by task_id."""
    names = {task: task for task in operators()} | {"decided": "decide"}

    def tasks(node: ast.expr) -> list[str]:
        match node:
            case ast.Name(name):
                return [names[name]]
            case ast.List(elements):
                return [task for element in elements for task in tasks(element)]
            case ast.Call(keywords=[ast.keyword(arg="task_id", value=ast.Constant(str(task)))]):
                return [task]
            case _:
                raise AssertionError(ast.dump(node))

    shifts = [node for node in ast.walk(function("trainpipe")) if isinstance(node, ast.BinOp)]
    told = {edge for node in shifts for edge in itertools.product(tasks(node.left), tasks(node.right))}
    uses = [
        node for node in ast.walk(function("trainpipe")) if ast.unparse(node).startswith("decide(ask_for_batch.output")
    ]
    return told | ({("ask_for_batch", "decide")} if uses else set())


def test_the_tasks_are_wired_as_the_pipeline_goes() -> None:
    assert {task: kind for task, (kind, _) in operators().items()} == {
        "wait_for_data": "HttpSensor",
        "ask_for_batch": "HttpOperator",
        "wait_for_dataset": "HttpSensor",
        "clean": "HttpOperator",
        "not_yet": "EmptyOperator",
    }
    assert named_edges() == EDGES


def test_the_routes_are_the_gateways() -> None:
    asked = {task: ast.literal_eval(told["endpoint"]) for task, (_, told) in operators().items() if "endpoint" in told}
    record = "records/batch/{{ ti.xcom_pull('ask_for_batch')['batch'] }}"
    assert asked == {
        "wait_for_data": "stats",
        "ask_for_batch": "train",
        "wait_for_dataset": record,
        "clean": "cleanbuf",
    }


def test_every_question_carries_the_key_of_the_connection() -> None:
    key = constant("KEY")
    assert key == {"Authorization": "Bearer {{ conn.glitchflow.password }}"}
    (json,) = (ast.unparse(node) for node in TREE.body if ast.unparse(node).startswith("JSON ="))
    assert json.endswith("**KEY}")
    asked = {task: ast.unparse(told["headers"]) for task, (_, told) in operators().items() if "endpoint" in told}
    assert asked == {"wait_for_data": "KEY", "wait_for_dataset": "KEY", "ask_for_batch": "JSON", "clean": "JSON"}


def test_the_archived_batch_is_the_preprocessed_one() -> None:
    asked = {task: ast.literal_eval(told["data"]) for task, (_, told) in operators().items() if "data" in told}
    batch = "ti.xcom_pull('ask_for_batch')['batch']"
    assert f"'batch': {batch}" in asked["clean"]
    assert batch in ast.literal_eval(operators()["wait_for_dataset"][1]["endpoint"])


def test_one_run_at_a_time_and_none_for_the_past() -> None:
    (decorator,) = function("trainpipe").decorator_list
    assert isinstance(decorator, ast.Call)
    told = {word.arg: ast.unparse(word.value) for word in decorator.keywords}
    assert (told["max_active_runs"], told["catchup"]) == ("1", "False")


@pytest.mark.parametrize(
    ("answer", "task"),
    [
        ({"resp": "FROZEN", "n_f": 9, "bt_wrt": 99, "holder": "airflow", "batch": "b1"}, "wait_for_dataset"),
        ({"resp": "FROZEN", "n_f": 9, "bt_wrt": 99, "holder": "alice", "batch": "b1"}, "not_yet"),
        ({"resp": "WAITING"}, "not_yet"),
    ],
)
def test_only_a_batch_of_its_own_is_preprocessed(answer: dict[str, Any], task: str) -> None:
    assert pure("next_step")(answer, "airflow") == task


def test_an_answer_that_is_neither_frozen_nor_waiting_fails_the_task() -> None:
    with pytest.raises(ValueError, match="neither"):
        pure("next_step")({"resp": "CLEANED"}, "airflow")


@pytest.mark.parametrize(("segments", "there"), [(0, False), (1, True)])
def test_the_sensor_waits_for_a_segment(segments: int, there: bool) -> None:  # noqa: FBT001 (what is expected)
    answer = SimpleNamespace(json=lambda: {"n_itm": segments, "buff_size": 0})
    assert pure("has_segments")(answer) is there


@pytest.mark.parametrize(
    ("states", "there"), [({}, False), ({"spectrograms": "RUNNING"}, False), ({"spectrograms": "DONE"}, True)]
)
def test_the_sensor_waits_until_the_step_is_done(states: dict[str, str], there: bool) -> None:  # noqa: FBT001 (what is expected)
    steps = [{"name": name, "state": state, "reason": None} for name, state in ({"sealed": "DONE"} | states).items()]
    assert pure("has_dataset")(SimpleNamespace(json=lambda: {"id": "batch/b1", "steps": steps})) is there


def test_a_step_that_failed_fails_the_task_with_its_reason() -> None:
    steps = [{"name": "spectrograms", "state": "FAILED", "reason": "no window could be made"}]
    with pytest.raises(ValueError, match="spectrograms failed: no window"):
        pure("has_dataset")(SimpleNamespace(json=lambda: {"steps": steps}))


def test_the_step_is_the_one_that_preproc_watch_performs(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        preproc(["watch", "--help"])
    assert f"(default: {constant('STEP')})" in " ".join(capsys.readouterr().out.split())


def test_airflow_imports_it() -> None:
    pytest.importorskip("airflow.sdk", reason="Airflow is not installed: the DAG was only read, not imported")
    spec = importlib.util.spec_from_file_location("trainpipe", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dag = module.trainpipe()
    assert {(task.task_id, later) for task in dag.tasks for later in task.downstream_task_ids} == EDGES

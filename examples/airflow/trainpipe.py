"""Train, preprocess, clean: the datastore's pipeline as a DAG for Airflow 3.

    wait_for_data ─▶ ask_for_batch ─▶ decide ─┬─ FROZEN ──▶ wait_for_dataset ─▶ clean
                                              └─ WAITING ─▶ not_yet

A run asks once. While the batch is too small the answer is WAITING, the run ends, and the next run asks again. A
frozen batch stays with its holder, so a run that is repeated gets the same batch; it is archived only after its dataset
is complete: when the step `spectrograms` of its record is DONE. A listener performs the step, `preproc watch`, for
example the Deployment of k8s/pipeline/listener.yaml; `gwclient redo` repeats a step that FAILED.

The DAG needs the provider `apache-airflow-providers-http`, and two connections:

    airflow connections add glitchflow --conn-uri http://:KEY@gflapi.glitchflow.svc:8000
    airflow connections add glitchflow_holder --conn-type generic --conn-login airflow --conn-password TOKEN

KEY is an API key of the user `airflow`, with the scopes read, train and clean (`glitchflow-keys create airflow --scopes
read,train,clean`); a gateway with AUTH=off ignores it.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, task

GATEWAY = "glitchflow"
#: Templates, so that the key is looked up when a task runs, and Airflow masks it in its output.
KEY = {"Authorization": "Bearer {{ conn.glitchflow.password }}"}
JSON = {"Content-Type": "application/json", **KEY}
#: The step on the record of a batch that makes its dataset.
STEP = "spectrograms"


def has_segments(response: Any) -> bool:
    """Return whether a segment is stored, according to the answer of GET /stats."""
    return bool(response.json()["n_itm"] > 0)


def has_dataset(response: Any) -> bool:
    """Return whether the dataset of a batch is made, according to its record.

    Raises:
        ValueError: the step FAILED.
    """
    steps = {step["name"]: step for step in response.json()["steps"]}
    step = steps.get(STEP, {"state": "WAITING"})
    if step["state"] == "FAILED":
        message = f"{STEP} failed: {step['reason']}"
        raise ValueError(message)
    return bool(step["state"] == "DONE")


def next_step(answer: dict[str, Any], holder: str) -> str:
    """Return the task that follows an answer of POST /train.

    A batch that another user froze belongs to that user: it is neither processed nor archived here.

    Raises:
        ValueError: the answer is neither FROZEN nor WAITING.
    """
    match answer:
        case {"resp": "FROZEN", "holder": owner}:
            return "wait_for_dataset" if owner == holder else "not_yet"
        case {"resp": "WAITING"}:
            return "not_yet"
        case _:
            message = f"neither FROZEN nor WAITING: {answer}"
            raise ValueError(message)


@dag(
    schedule=timedelta(minutes=5),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 3, "retry_delay": timedelta(seconds=30)},
    tags=["glitchflow"],
    doc_md=__doc__,
)
def trainpipe() -> None:
    """Connect the tasks."""
    wait_for_data = HttpSensor(
        task_id="wait_for_data",
        http_conn_id=GATEWAY,
        endpoint="stats",
        headers=KEY,
        response_check=has_segments,
        mode="reschedule",
        poke_interval=30,
        timeout=timedelta(days=1),
    )
    ask_for_batch = HttpOperator(
        task_id="ask_for_batch",
        http_conn_id=GATEWAY,
        method="POST",
        endpoint="train",
        headers=JSON,
        data="{{ {'user': conn.glitchflow_holder.login, 'token': conn.glitchflow_holder.password} | tojson }}",
        response_filter=lambda response: response.json(),
    )

    @task.branch(task_id="decide")
    def decide(answer: dict[str, Any], holder: str) -> str:
        return next_step(answer, holder)

    wait_for_dataset = HttpSensor(
        task_id="wait_for_dataset",
        http_conn_id=GATEWAY,
        endpoint="records/batch/{{ ti.xcom_pull('ask_for_batch')['batch'] }}",
        headers=KEY,
        response_check=has_dataset,
        mode="reschedule",
        poke_interval=30,
        timeout=timedelta(days=1),
    )
    clean = HttpOperator(
        task_id="clean",
        http_conn_id=GATEWAY,
        method="POST",
        endpoint="cleanbuf",
        headers=JSON,
        # Only that batch: the batch that became current after it has no dataset.
        data="{{ {'msg': 'trainpipe ' ~ run_id, 'batch': ti.xcom_pull('ask_for_batch')['batch']} | tojson }}",
    )
    wait_for_data >> ask_for_batch
    decided = decide(ask_for_batch.output, "{{ conn.glitchflow_holder.login }}")
    decided >> [wait_for_dataset, EmptyOperator(task_id="not_yet")]
    wait_for_dataset >> clean


trainpipe()

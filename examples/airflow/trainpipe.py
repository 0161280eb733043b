"""Train, preprocess, clean: the datastore's pipeline as a DAG for Airflow 3.

    wait_for_data ─▶ ask_for_batch ─▶ decide ─┬─ FROZEN ──▶ preprocess ─▶ clean
                                              └─ WAITING ─▶ not_yet

A run asks once. While the batch is too small the answer is WAITING, the run ends, and the next run asks again. A
frozen batch stays with its holder, so a run that is repeated gets the same batch; it is archived only after its dataset
is complete.

The DAG needs the providers `apache-airflow-providers-http` and `apache-airflow-providers-cncf-kubernetes`, and two
connections:

    airflow connections add glitchflow --conn-uri http://:KEY@gflapi.glitchflow.svc:8000
    airflow connections add glitchflow_holder --conn-type generic --conn-login airflow --conn-password TOKEN

KEY is an API key of the user `airflow`, with the scopes read, train and clean (`glitchflow-keys create airflow --scopes
read,train,clean`); a gateway with AUTH=off ignores it.

The workers need permission to create pods in the datastore's namespace; `kubernetes_default` is the connection to the
cluster.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.http.operators.http import HttpOperator
from airflow.providers.http.sensors.http import HttpSensor
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import dag, task

GATEWAY = "glitchflow"
#: Templates, so that the key is looked up when a task runs, and Airflow masks it in its output.
KEY = {"Authorization": "Bearer {{ conn.glitchflow.password }}"}
JSON = {"Content-Type": "application/json", **KEY}

#: The pod of k8s/base/preproc/job.yaml. The data volume is read-only; if it is ReadWriteOnce, the pod has to run on the
#: buffer's node; if it is ReadWriteMany, remove the affinity.
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "preproc-airflow",
        "namespace": "glitchflow",
        "labels": {
            "app.kubernetes.io/name": "preproc",
            "app.kubernetes.io/component": "client",
            "app.kubernetes.io/part-of": "glitchflow",
        },
    },
    "spec": {
        "serviceAccountName": "preproc",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "affinity": {
            "podAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {
                        "topologyKey": "kubernetes.io/hostname",
                        "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "databuffer"}},
                    }
                ]
            }
        },
        "containers": [
            {
                "name": "base",  # the container name that the operator expects
                "image": "glitchflow/preproc:0.1.0",
                "imagePullPolicy": "IfNotPresent",
                "command": ["python", "-m", "preproc"],
                "env": [{"name": "MPLCONFIGDIR", "value": "/tmp/matplotlib"}],  # noqa: S108 (the container's)
                "resources": {
                    "requests": {"cpu": "100m", "memory": "512Mi", "ephemeral-storage": "64Mi"},
                    "limits": {"cpu": "2", "memory": "2Gi", "ephemeral-storage": "1Gi"},
                },
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
                "volumeMounts": [
                    {"name": "data", "mountPath": "/datavar", "readOnly": True},
                    {"name": "dataset", "mountPath": "/dataset"},
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (the container's)
                ],
            }
        ],
        "volumes": [
            {"name": "data", "persistentVolumeClaim": {"claimName": "gwdata"}},
            {"name": "dataset", "persistentVolumeClaim": {"claimName": "dataset"}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "512Mi"}},
        ],
    },
}


def has_segments(response: Any) -> bool:
    """Return whether a segment is stored, according to the answer of GET /stats."""
    return bool(response.json()["n_itm"] > 0)


def next_step(answer: dict[str, Any], holder: str) -> str:
    """Return the task that follows an answer of POST /train.

    A batch that another user froze belongs to that user: it is neither processed nor archived here.

    Raises:
        ValueError: the answer is neither FROZEN nor WAITING.
    """
    match answer:
        case {"resp": "FROZEN", "holder": owner}:
            return "preprocess" if owner == holder else "not_yet"
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

    preprocess = KubernetesPodOperator(
        task_id="preprocess",
        pod_template_dict=POD,
        arguments=["run", "--data", "/datavar/data", "--out", "/dataset/{{ ti.xcom_pull('ask_for_batch')['batch'] }}"],
        # A worker that is restarted finds the pod that it started before.
        reattach_on_restart=True,
        on_finish_action="delete_succeeded_pod",
        get_logs=True,
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
    decided >> [preprocess, EmptyOperator(task_id="not_yet")]
    preprocess >> clean


trainpipe()

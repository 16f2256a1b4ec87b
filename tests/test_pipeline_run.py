"""The MLflow run of a pipeline run, and its last word: on a real MLflow server, with a Kubeflow API and a webhook."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import mlflow
import pytest
from kfp_api import Fault, State, run, task
from mlflow.tracking import MlflowClient
from servers import mlflow_server

from ganflow import pipeline_run, steps
from ganflow.tracking import training_run

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")
DATA = {"name": "shapes", "raw_md5": "0" * 32, "resolution": 28, "channels": 1}
TASKS = [
    task("prepare", "SUCCEEDED", 1, cached=True), task("reference", "SUCCEEDED", 2, cached=True),
    task("train", "SUCCEEDED", 3, tries=2), task("evaluate", "SUCCEEDED", 4), task("summary", "RUNNING", 5, tries=0),
]  # fmt: skip
"""One attempt of train was preempted."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("mlflow")
    with mlflow_server(folder, f"sqlite:///{folder / 'mlflow.db'}") as url:
        yield url


@pytest.fixture
def pod(store: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A pod's environment; returns the id of the Kubeflow run."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "GANFLOW_", "KF"))]:
        if name not in ("MLFLOW_TRACKING_URI", "KF_PIPELINES_ENDPOINT"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "")  # to be restored, whatever is set in between
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    monkeypatch.setattr("mlflow.tracking.fluent._active_experiment_id", None)  # a pod is a process of its own
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    mlflow.set_tracking_uri(store)
    identity = request.node.name
    monkeypatch.setenv("KFP_RUN_ID", identity)
    return identity


def train(folder: Path, **parameters: Any) -> str:
    """A training's run; returns its id."""
    with training_run({"seed": 1, **parameters}, DATA, None, folder / "model" / "checkpoints" / "run.json") as made:
        made.metrics(10, {"loss_d": 1.0})
    return made.id


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model" / "checkpoints").mkdir(parents=True)
    return tmp_path


def parent_of(run_id: str) -> str | None:
    parent: str | None = MlflowClient().get_run(run_id).data.tags.get("mlflow.parentRunId")
    return parent


def test_a_training_nests_in_the_run_of_its_pipeline(pod: str, folder: Path) -> None:
    first = train(folder)
    parent = parent_of(first)
    assert parent
    assert MlflowClient().get_run(parent).data.tags[pipeline_run.KUBEFLOW] == pod
    (folder / "2" / "model" / "checkpoints").mkdir(parents=True)
    second = train(folder / "2", width=9)
    assert second != first
    assert parent_of(second) == parent


def test_a_training_on_a_laptop_has_no_parent(pod: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KFP_RUN_ID")
    assert parent_of(train(folder)) is None


def test_a_named_parent_wins(pod: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = MlflowClient().create_run(mlflow.set_experiment("ganflow").experiment_id).info.run_id
    monkeypatch.setenv(pipeline_run.PARENT, sweep)
    assert parent_of(train(folder)) == sweep


@pytest.fixture
def injected(pod: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """What Kubeflow's MLflow plugin does: a run for the pipeline and one for the task, in an experiment of its own."""
    client = MlflowClient()
    experiment = client.create_experiment(f"kfp-{pod}")
    parent = client.create_run(experiment).info.run_id
    task = client.create_run(experiment, tags={"mlflow.parentRunId": parent}).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", task)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ganflow")  # from the config map, and another one
    return parent, task


def test_a_training_attaches_to_the_run_that_kubeflow_injected(injected: tuple[str, str], folder: Path) -> None:
    assert train(folder) == injected[1]
    found = MlflowClient().get_run(injected[1])
    assert found.data.params["seed"] == "1"
    assert found.data.metrics["loss_d"] == 1.0
    assert pipeline_run.KUBEFLOW not in found.data.tags


def test_steps_note_into_the_injected_parent(injected: tuple[str, str]) -> None:
    pipeline_run.note({"ganflow.verdict": "promoted"}, {"fid": 3.0})
    found = MlflowClient().get_run(injected[0])
    assert found.data.tags["ganflow.verdict"] == "promoted"
    assert found.data.metrics == {"fid": 3.0}


def test_two_tasks_that_begin_at_once_have_one_parent(pod: str) -> None:
    pipeline_run.choose_experiment()
    found: list[str | None] = []
    threads = [threading.Thread(target=lambda: found.append(pipeline_run.pipeline_run())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pipeline_run.pipeline_run() is not None
    left = mlflow.search_runs(filter_string=f"tags.`{pipeline_run.KUBEFLOW}` = '{pod}'", output_format="list")
    assert [one.info.run_id for one in left] == [pipeline_run.pipeline_run()]


def test_the_same_note_twice_is_one_point(pod: str) -> None:
    for _ in range(2):
        pipeline_run.note({}, {"fid": 3.0})
    found = pipeline_run.pipeline_run()
    assert found
    assert len(MlflowClient().get_metric_history(found, "fid")) == 1


class Hook(BaseHTTPRequestHandler):
    got: list[dict[str, Any]]
    refuse = 0

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if type(self).refuse:
            type(self).refuse -= 1
            self.send_response(500)
        else:
            self.got.append(json.loads(body))
            self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hook]]:
    kind = type("Kind", (Hook,), {"got": []})
    server = HTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    monkeypatch.setenv("GANFLOW_WEBHOOK", f"http://127.0.0.1:{server.server_address[1]}/secret-path")
    yield kind
    server.shutdown()
    server.server_close()


def summary(folder: Path, pod: str, state: str = "SUCCEEDED", error: str | None = None) -> dict[str, Any]:
    steps.summary(pod, state, error, str(folder / "summary.json"), str(folder / "overview.md"))
    content: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return content


def test_the_summary_of_a_run_that_went_well(
    kfp: State, pod: str, hook: type[Hook], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    monkeypatch.setenv("KF_PIPELINES_UI_ENDPOINT", "https://kfp.example")
    kfp.runs.append(run(pod, tasks=TASKS))
    pipeline_run.note({"ganflow.verdict": "promoted", "ganflow.model_version": "shoes/3"}, {"fid_inception_10k": 4.5})
    content = summary(tmp_path, pod)
    assert content["state"] == "SUCCEEDED"
    assert {task["name"]: task["cached"] for task in content["tasks"]} == {
        "prepare": True, "reference": True, "train": False, "evaluate": False,
    }  # fmt: skip
    assert content["scores"] == {"fid_inception_10k": 4.5}
    assert content["notes"]["ganflow.model_version"] == "shoes/3"
    assert content["links"]["kubeflow"] == f"https://kfp.example/#/runs/details/{pod}"
    assert content["links"]["mlflow"].startswith(f"{store}/#/experiments/")
    assert content["trouble"] == []
    page = (tmp_path / "overview.md").read_text()
    assert f"# Run {pod}: SUCCEEDED" in page
    assert "| prepare | cached |" in page
    assert "| fid_inception_10k | 4.5 |" in page
    found = MlflowClient().get_run(pipeline_run.pipeline_run() or "")
    assert found.info.status == "FINISHED"
    assert found.data.tags["ganflow.cached"] == "prepare,reference"
    assert {key: value for key, value in found.data.tags.items() if key.startswith("ganflow.task.")} == {
        f"ganflow.task.{name}": "SUCCEEDED" for name in ("prepare", "reference", "train", "evaluate")
    }
    assert found.data.tags["ganflow.kubeflow_url"] == f"https://kfp.example/#/runs/details/{pod}"
    assert {one.path for one in MlflowClient().list_artifacts(found.info.run_id)} == {"summary.json", "overview.md"}
    [posted] = hook.got
    assert posted["text"] == f"ganflow run {pod}: SUCCEEDED"
    assert posted["scores"] == {"fid_inception_10k": 4.5}


def test_the_summary_of_a_run_that_failed_says_so(kfp: State, pod: str, tmp_path: Path) -> None:
    """The group's state lags behind: kubeflow/pipelines#13321."""
    kfp.runs.append(run(pod, tasks=[task("prepare", "SUCCEEDED"), task("train", "FAILED", 1)]))
    content = summary(tmp_path, pod, "RUNNING", "Task exit-handler-1 failed")
    assert content["state"] == "FAILED"
    assert content["error"] == "Task exit-handler-1 failed"
    assert MlflowClient().get_run(pipeline_run.pipeline_run() or "").info.status == "FAILED"


def test_the_summary_of_a_cancelled_run(kfp: State, pod: str, tmp_path: Path) -> None:
    kfp.runs.append(run(pod, tasks=[task("train", "CANCELED")]))
    assert summary(tmp_path, pod, "CANCELLED")["state"] == "CANCELED"
    assert MlflowClient().get_run(pipeline_run.pipeline_run() or "").info.status == "KILLED"


def test_servers_that_are_down_fail_nothing(
    kfp: State, pod: str, hook: type[Hook], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    kfp.faults.append(Fault("/runs/", 500))
    hook.refuse = 99
    content = summary(tmp_path, pod, "FAILED", "train failed")
    assert content["state"] == "FAILED"
    first, second, third = content["trouble"]
    assert "the Kubeflow Pipelines API does not tell the tasks" in first
    assert "MLflow at http://127.0.0.1:9 says" in second
    assert third == "the webhook does not take the summary (HTTPError); check GANFLOW_WEBHOOK"
    assert "secret-path" not in json.dumps(content)


def test_the_webhook_is_tried_again(kfp: State, pod: str, hook: type[Hook], tmp_path: Path) -> None:
    kfp.runs.append(run(pod))
    hook.refuse = 2
    assert summary(tmp_path, pod)["trouble"] == []
    assert len(hook.got) == 1


@pytest.mark.parametrize(
    "address",
    ["hooks.example.org/secret-path", "http://127.0.0.1:9/secret path\n", "http://[secret-path"],
    ids=["no-scheme", "blanks", "no-host"],
)
def test_a_webhook_that_is_no_url_fails_nothing_and_is_not_told(
    kfp: State,
    pod: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    address: str,
) -> None:
    kfp.runs.append(run(pod))
    monkeypatch.setenv("GANFLOW_WEBHOOK", address)
    [sentence] = summary(tmp_path, pod)["trouble"]
    assert sentence.startswith("the webhook does not take the summary (")
    assert "secret" not in "".join(capsys.readouterr()) + (tmp_path / "summary.json").read_text()


def test_a_webhook_that_does_not_speak_http_fails_nothing(
    kfp: State, pod: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kfp.runs.append(run(pod))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def babble() -> None:
            for _ in range(3):
                with server.accept()[0] as connection:
                    connection.recv(1 << 20)
                    connection.sendall(b"what?\r\n\r\n")

        thread = threading.Thread(target=babble, daemon=True)
        thread.start()
        monkeypatch.setenv("GANFLOW_WEBHOOK", f"http://127.0.0.1:{server.getsockname()[1]}/")
        [sentence] = summary(tmp_path, pod)["trouble"]
        thread.join(10)
    assert sentence == "the webhook does not take the summary (BadStatusLine); check GANFLOW_WEBHOOK"


def test_pipelines_that_begin_at_once_make_one_experiment(pod: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", f"new-{pod}")
    together = threading.Barrier(8)

    def begin(_: int) -> None:
        together.wait()
        pipeline_run.note({"ganflow.verdict": "kept"}, {})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(begin, range(8)))
    assert mlflow.get_experiment_by_name(f"new-{pod}")


def test_the_plugins_own_run_is_not_ended(kfp: State, injected: tuple[str, str], pod: str, tmp_path: Path) -> None:
    kfp.runs.append(run(pod, tasks=TASKS))
    summary(tmp_path, pod)
    found = MlflowClient().get_run(injected[0])
    assert found.info.status == "RUNNING"
    assert found.data.tags["ganflow.cached"] == "prepare,reference"

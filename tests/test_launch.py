"""The launcher of a TrainJob: the real kubernetes client, and nodes that say two lines and send a model, or do not."""

import shutil
import signal
import sys
from pathlib import Path

import pytest
from kfp_api import Fault
from launching import ended, kubernetes, nothing_is_left, start, the_job, until
from trainer_api import State

from ganflow.artifacts import Model
from ganflow.launch import end_jobs

__all__ = ["kubernetes", "nothing_is_left"]

SAYS = "import sys, time; print('line 1', flush=True); time.sleep(1.5); print('line 2', flush=True); "
SENDS = """
import os
from pathlib import Path
from ganflow.handover import listing, send
from ganflow.objects import open_store
made = Path(sys.argv[1])
send(open_store(os.environ["GANFLOW_CHECKPOINTS"]), made, sys.argv[-2], listing(made))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A pod's disk, with what the steps before have left."""
    for name in ("prepared", "reference"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "data").write_text(name)
    return tmp_path


@pytest.fixture
def made(place: Path, kubernetes: State) -> Path:
    """A model that the leading node sends after two lines of log, without any training."""
    model = Model(place / "made")
    model.write_card({"generator_sha256": "0" * 64})
    (model.path / "samples").mkdir()
    (model.path / "samples/1.png").write_bytes(b"picture")
    kubernetes.instead = [sys.executable, "-c", SAYS + SENDS, str(model.path)]
    return model.path


@pytest.mark.slow
def test_a_failed_job_is_told_with_its_last_lines_and_makes_room(place: Path, kubernetes: State) -> None:
    code = "import os; sys.exit(3) if os.environ['PET_NODE_RANK'] == '0' else time.sleep(60)"
    kubernetes.instead, kubernetes.restarts = [sys.executable, "-c", SAYS + code], 0
    said = ended(start(place, kubernetes), 1)
    name = next(iter(kubernetes.jobs))
    assert f"GanflowError: TrainJob {name} failed (FailedJobs: jobset failed due to one or more job failures)" in said
    assert "; node 0: Error, exit code 3" in said
    assert "; its last lines: line 1 | line 2" in said
    assert not (place / "model").exists()
    said = ended(start(place, kubernetes), 1)
    assert f"TrainJob {name} of an earlier attempt left no model; it makes room for another" in said
    assert [body["metadata"]["name"] for body in kubernetes.made] == [name, name]


def test_a_cancelled_launcher_takes_its_job_with_it(place: Path, kubernetes: State) -> None:
    kubernetes.instead = [sys.executable, "-c", SAYS + "time.sleep(60)"]
    launcher = start(place, kubernetes)
    job = the_job(kubernetes)
    until(lambda: len(job.pods[0].log) == 2)
    launcher.send_signal(signal.SIGTERM)
    said = ended(launcher, 1, 15)
    assert "Interrupted: stopped; TrainJob" in said
    assert not kubernetes.jobs
    assert kubernetes.asked("DELETE", "propagationPolicy=Foreground") == 1, "gone when its pods are"
    assert [pod.code for pod in job.pods] == [-signal.SIGTERM] * 2


def test_a_cancelled_launcher_whose_api_is_down_says_that_the_job_goes_on(place: Path, kubernetes: State) -> None:
    kubernetes.instead = [sys.executable, "-c", SAYS + "time.sleep(60)"]
    launcher = start(place, kubernetes, GANFLOW_GRACE_SECONDS="5")
    job = the_job(kubernetes)
    until(lambda: len(job.pods[0].log) == 2)
    kubernetes.faults.append(Fault("trainjobs", 503, 1000))
    launcher.send_signal(signal.SIGTERM)
    said = ended(launcher, 1, 15)
    assert "GanflowError: the Kubernetes API could not delete TrainJobs for 2 s (503" in said
    assert kubernetes.jobs


@pytest.mark.slow
def test_errors_of_the_api_are_lived_through_and_no_line_is_told_twice(
    place: Path, kubernetes: State, made: Path
) -> None:
    kubernetes.faults += [
        Fault("GET /apis/trainer", 500, 2), Fault("POST /apis/trainer", "lose"), Fault("/log", "drop"),
        Fault("/pods", 502),
    ]  # fmt: skip
    launcher = start(place, kubernetes)
    job = the_job(kubernetes)
    until(lambda: job.pods[0].log)
    kubernetes.faults += [Fault("GET /apis/trainer", "drop"), Fault("GET /apis/trainer", 503)]
    said = ended(launcher)
    assert len(kubernetes.made) == 1
    assert (said.count("line 1"), said.count("line 2")) == (1, 1)
    assert (place / "model/samples/1.png").read_bytes() == b"picture"


@pytest.mark.slow
def test_a_launcher_that_is_tried_again_finds_its_job(place: Path, kubernetes: State, made: Path) -> None:
    kubernetes.instead[2] = "import time; time.sleep(4); " + kubernetes.instead[2]
    first = start(place, kubernetes)
    job = the_job(kubernetes)
    first.kill()
    ended(first, -signal.SIGKILL)
    second = start(place, kubernetes, POD_NAME="launch-2", POD_UID="uid-2")
    said = ended(second)
    assert f"going on with TrainJob {job.body['metadata']['name']}, which an earlier attempt made" in said
    assert said.count(" already") == 2, "the inputs were not sent again"
    [body] = kubernetes.made
    assert body["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Pod", "name": "launch-1", "uid": "uid-1"}
    ]
    assert "line 2" in said
    shutil.rmtree(place / "model")
    assert "is made" not in ended(start(place, kubernetes)), "a third one finds the model itself"
    assert (place / "model/samples/1.png").read_bytes() == b"picture"


def test_a_job_that_others_delete_is_no_success(place: Path, kubernetes: State) -> None:
    kubernetes.instead = [sys.executable, "-c", SAYS + "time.sleep(60)"]
    launcher = start(place, kubernetes)
    the_job(kubernetes).deleted = True
    assert "was deleted before its end; find out by whom, and try again" in ended(launcher, 1, 30)


def test_a_job_without_a_model_is_no_success(place: Path, kubernetes: State) -> None:
    kubernetes.instead = [sys.executable, "-c", SAYS]
    said = ended(start(place, kubernetes), 1)
    assert "is complete, and" in said
    assert "has no model; look at the log of its nodes" in said


@pytest.mark.parametrize(
    ("kind", "cure"),
    [(403, "the role of deploy/base/runs/trainer.yaml"), (422, "mend resources in params.yaml")],
)
def test_a_refusal_is_final(place: Path, kubernetes: State, kind: int, cure: str) -> None:
    kubernetes.faults.append(Fault("POST /apis/trainer", kind))
    assert cure in ended(start(place, kubernetes), 1)
    assert kubernetes.asked("POST", "trainjobs") == 1


def test_without_kubeflow_trainer(place: Path, kubernetes: State) -> None:
    kubernetes.installed = False
    assert "no TrainJobs at all (the server could not find the requested resource)" in ended(
        start(place, kubernetes), 1
    )


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("GANFLOW_CHECKPOINTS", "the nodes meet in that store; set it in the config map"),
        ("GANFLOW_TRAINJOB", "compile the pipeline for a profile with nodes of more than 1"),
    ],
)
def test_what_is_not_set_is_named(place: Path, kubernetes: State, name: str, cure: str) -> None:
    said = ended(start(place, kubernetes, **{name: ""}), 1)
    assert f"ConfigError: {name} is not set; {cure}" in said
    assert not kubernetes.requests


@pytest.mark.slow
def test_the_exit_task_ends_what_killed_launchers_left(
    place: Path, kubernetes: State, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kubernetes.instead = [sys.executable, "-c", "import os, time; time.sleep(60 * ('-1' in os.environ['KFP_RUN_ID']))"]
    for run in ("run-1", "run-12"):
        launcher = start(place, kubernetes, KFP_RUN_ID=run)
        until(lambda run=run: run in [body["metadata"]["labels"]["pipeline/runid"] for body in kubernetes.made])
        launcher.kill()
    over = start(place, kubernetes, KFP_RUN_ID="run-2")
    ended(over, 1)
    monkeypatch.setenv("KUBECONFIG", str(place / "kubeconfig"))
    left, other, done = kubernetes.jobs
    end_jobs("run-1")
    until(lambda: left not in kubernetes.jobs)
    assert list(kubernetes.jobs) == [other, done]
    assert f"TrainJob {left} had lost its launcher; it is deleted" in capsys.readouterr().err
    end_jobs("run-2")
    assert list(kubernetes.jobs) == [other, done], "one that has ended keeps its logs"
    kubernetes.faults.append(Fault("trainjobs", 403))
    end_jobs("run-12")
    assert "TrainJobs may be left of run run-12: Kubernetes does not let us list" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_sdk_s_own_client_reads_the_job(place: Path, kubernetes: State) -> None:
    from kubeflow.common.types import KubernetesBackendConfig
    from kubeflow.trainer import TrainerClient

    kubernetes.instead = [sys.executable, "-c", SAYS + "time.sleep(60)"]
    launcher = start(place, kubernetes)
    job = the_job(kubernetes)
    until(lambda: len(job.pods[0].log) == 2)
    client = TrainerClient(KubernetesBackendConfig(namespace="runs", config_file=str(place / "kubeconfig")))
    name = job.body["metadata"]["name"]
    seen = client.get_job(name)
    assert (seen.status, seen.num_nodes, [step.name for step in seen.steps]) == ("Running", 2, ["node-0", "node-1"])
    assert list(client.get_job_logs(name)) == ["line 1", "line 2"]
    client.delete_job(name)
    assert "was deleted before its end" in ended(launcher, 1, 30)


@pytest.mark.slow
def test_a_job_that_waits_for_its_nodes_says_so_once(place: Path, kubernetes: State, made: Path) -> None:
    kubernetes.instead[2] = kubernetes.instead[2].replace("time.sleep(1.5)", "time.sleep(8)")
    kubernetes.pending = True
    launcher = start(place, kubernetes)
    until(lambda: kubernetes.asked("GET", "/pods") >= 2)
    kubernetes.pending = False
    said = ended(launcher)
    assert said.count("waits for its leading node") == 1
    assert (said.count("line 1"), said.count("line 2")) == (1, 1)


@pytest.mark.slow
def test_a_node_whose_pod_is_replaced_is_listened_to_again(place: Path, kubernetes: State, made: Path) -> None:
    """An evicted pod stays in the list beside the new one."""
    kubernetes.instead[2] = kubernetes.instead[2].replace("time.sleep(1.5)", "time.sleep(4)")
    launcher = start(place, kubernetes)
    job = the_job(kubernetes)
    until(lambda: job.pods[0].log and kubernetes.asked("GET", f"{job.pods[0].name}/log"))
    evicted = job.evict(0)
    said = ended(launcher)
    assert evicted.log[0].endswith("line 1")
    assert (said.count("line 1"), said.count("line 2")) == (2, 1)

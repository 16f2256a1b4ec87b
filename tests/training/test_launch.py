"""Training on several nodes: the launcher, the real kubernetes client, a real S3 server, nodes that are processes."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from kfp_api import Fault
from servers import s3, weed
from trainer_api import Job, State, trainer_api

from ganflow import steps, trainjob
from ganflow.artifacts import Model, file_hash
from ganflow.config import Data, Evaluate, Train
from ganflow.launch import end_jobs
from ganflow.objects import Store, open_store
from ganflow.resources import Profile, Resources

SETTINGS = Train(
    width=8, latent_dim=16, batch_size=32, total_images=3200, log_every_images=160, sample_every_images=3200,
    checkpoint_every_images=320, online_fid_images=64,
).json_text()  # fmt: skip
LAUNCH = "import sys; from ganflow import steps; steps.launch('prepared', 'reference', 'model', sys.argv[1])"
POD = "import sys; from ganflow import steps; steps.train_in_pod('prepared', 'reference', 'whole', sys.argv[1])"
SAYS = "import sys, time; print('line 1', flush=True); time.sleep(1.5); print('line 2', flush=True); "
SENDS = """
import os
from pathlib import Path
from ganflow.handover import listing, send
from ganflow.objects import open_store
made = Path(sys.argv[1])
send(open_store(os.environ["GANFLOW_CHECKPOINTS"]), made, sys.argv[-2], listing(made))
"""
NODES = Profile(nodes=2, cpu="1", memory="2Gi")
IMAGE = "ganflow:test"
STARTED: list["subprocess.Popen[str]"] = []


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    for process in STARTED:
        with process:
            process.kill()
    STARTED.clear()


@pytest.fixture(scope="module")
def inputs(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training reads."""
    folder = tmp_path_factory.mktemp("inputs")
    steps.prepare(str(raw), str(folder / "prepared"), Data(limit=512).json_text())
    evaluate = Evaluate(count=256, classifier_epochs=1).json_text()
    steps.reference(str(folder / "prepared"), str(folder / "reference"), evaluate)
    return folder


@pytest.fixture
def place(inputs: Path, tmp_path: Path) -> Path:
    for name in ("prepared", "reference"):
        shutil.copytree(inputs / name, tmp_path / name)
    return tmp_path


@pytest.fixture
def kubernetes(place: Path) -> Iterator[State]:
    with trainer_api(place / "kubeconfig") as state:
        state.environment = {
            "MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db", "GANFLOW_CHECKPOINTS": str(place / "store"),
        }  # fmt: skip
        yield state


@pytest.fixture
def bucket(place: Path, kubernetes: State, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    if weed() is None:
        pytest.skip("SeaweedFS is not installed")
    with s3(place, "checkpoints") as variables:
        kubernetes.environment |= variables | {"GANFLOW_CHECKPOINTS": "s3://checkpoints/runs"}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield open_store("s3://checkpoints/runs")


def start(place: Path, state: State, code: str = LAUNCH, **environment: str) -> "subprocess.Popen[str]":
    """The launcher, or with another code a task, in a pod whose environment is what its compiled task gives."""
    own = ("MLFLOW_", "AWS_", "GANFLOW_", "OMP_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    clean |= state.environment | {
        "KFP_RUN_ID": "run-1", "POD_NAME": "launch-1", "POD_UID": "uid-1", "POD_NAMESPACE": "runs",
        "KUBECONFIG": str(place / "kubeconfig"), "GANFLOW_GRACE_SECONDS": "20",
        "GANFLOW_TRAINJOB": json.dumps(trainjob.spec(Resources(), NODES, IMAGE)),
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, SETTINGS], cwd=place, env=clean | environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    STARTED.append(process)
    return process


def ended(process: "subprocess.Popen[str]", code: int = 0, seconds: float = 240) -> str:
    said, _ = process.communicate(timeout=seconds)
    assert process.returncode == code, said
    return said


def until(condition: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    raise TimeoutError(condition)


def the_job(state: State) -> Job:
    job: Job = until(lambda: next(iter(state.jobs.values()), None))
    return job


def saved(store: Store) -> int:
    """How many checkpoints have left the nodes."""
    return sum(key.endswith("/card.json") for key in store.list("run-1/"))


def worker(job: Job, rank: int) -> psutil.Process:
    """The process of a node that trains."""
    node = job.pods[rank].process
    assert node
    [found] = [
        child
        for child in psutil.Process(node.pid).children(recursive=True)
        if "train" in child.cmdline() and "torch.distributed.run" not in child.cmdline()
    ]
    return found


def runs(place: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(place / "mlflow.db") as store:
        found: list[tuple[str, str]] = store.execute(
            "SELECT r.run_uuid, r.status FROM runs r WHERE NOT EXISTS (SELECT 1 FROM tags t WHERE t.run_uuid = "
            "r.run_uuid AND t.key = 'ganflow.kubeflow_run')"
        ).fetchall()
    return found


@pytest.fixture(scope="module")
def whole(inputs: Path) -> Model:
    """The same training by two processes of one pod."""
    alone = State(environment={"MLFLOW_TRACKING_URI": f"sqlite:///{inputs}/whole.db"})
    ended(start(inputs, alone, POD, GANFLOW_PROCESSES="2"))
    return Model(inputs / "whole")


def assert_same(model: Model, other: Model) -> None:
    assert model.read_card() == other.read_card()
    for name in ("generator.safetensors", "history.jsonl", "history.csv"):
        assert file_hash(model.path / name) == file_hash(other.path / name), name
    assert [path.name for path in sorted(model.samples.iterdir())] == [p.name for p in sorted(other.samples.iterdir())]


@pytest.mark.slow
@pytest.mark.usefixtures("bucket")
def test_two_nodes_train_as_two_processes_of_one_pod(place: Path, kubernetes: State, whole: Model) -> None:
    said = ended(start(place, kubernetes))
    assert "prepared is in s3://checkpoints/runs/run-1/inputs/" in said
    assert "the model of TrainJob ganflow-" in said
    assert "train: 3,200 of 3,200 images (100%)" in said, "the leading node's log"
    [(_, status)] = runs(place)
    assert status == "FINISHED"
    assert_same(Model(place / "model"), whole)
    assert (place / "model/checkpoints/provenance.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_of_a_node_costs_nothing_but_time(
    place: Path, kubernetes: State, bucket: Store, whole: Model, rank: int
) -> None:
    launcher = start(place, kubernetes)
    job = the_job(kubernetes)
    until(lambda: saved(bucket) >= 2)
    worker(job, rank).send_signal(signal.SIGKILL)
    said = ended(launcher)
    assert all(pod.codes for pod in job.pods), "both nodes were started again"
    assert "going on after" in said
    assert len(kubernetes.made) == 1
    [(_, status)] = runs(place)
    assert status == "FINISHED"
    assert_same(Model(place / "model"), whole)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_node_that_is_told_to_stop_is_not_done(place: Path, kubernetes: State, whole: Model, rank: int) -> None:
    """As Kubernetes does before it takes a pod from its machine: the others stop with it, and all begin again."""
    launcher = start(place, kubernetes)
    job = the_job(kubernetes)
    until(lambda: len(list((place / "store/run-1").rglob("card.json"))) >= 2)
    job.pods[rank].signal(signal.SIGTERM)
    said = ended(launcher)
    assert all(pod.codes for pod in job.pods), "neither of them was taken for done"
    assert "going on after" in said
    assert_same(Model(place / "model"), whole)


@pytest.fixture
def made(place: Path, kubernetes: State) -> Path:
    """A model that the leading node sends after two lines of log, without any training."""
    model = Model(place / "made")
    model.write_card({"generator_sha256": "0" * 64})
    (model.path / "samples").mkdir()
    (model.path / "samples/1.png").write_bytes(b"picture")
    kubernetes.instead = [sys.executable, "-c", SAYS + SENDS, str(model.path)]
    return model.path


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

"""Training on several nodes: the launcher, the real kubernetes client, a real S3 server, and nodes that are processes."""

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
from ganflow.resources import Profile, Resources

SETTINGS = Train(
    width=8, latent_dim=16, batch_size=32, total_images=3200, log_every_images=160, sample_every_images=3200,
    checkpoint_every_images=320, online_fid_images=64,
).json_text()  # fmt: skip
LAUNCH = "import sys; from ganflow import steps; steps.launch('prepared', 'reference', 'model', sys.argv[1])"
POD = "import sys; from ganflow import steps; steps.train_in_pod('prepared', 'reference', 'whole', sys.argv[1])"
NODES = Profile(nodes=2, cpu="1", memory="2Gi")
IMAGE = "ganflow:test"


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
def bucket(place: Path, kubernetes: State) -> Iterator[None]:
    if weed() is None:
        pytest.skip("SeaweedFS is not installed")
    with s3(place, "checkpoints") as variables:
        kubernetes.environment |= variables | {"GANFLOW_CHECKPOINTS": "s3://checkpoints/runs"}
        yield


def start(place: Path, state: State, code: str = LAUNCH, **environment: str) -> "subprocess.Popen[str]":
    """The launcher, or with another code a task, in a pod whose environment is what its compiled task gives."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_", "GANFLOW_"))}
    clean |= state.environment | {
        "KFP_RUN_ID": "run-1", "POD_NAME": "launch-1", "POD_UID": "uid-1", "POD_NAMESPACE": "runs",
        "KUBECONFIG": str(place / "kubeconfig"), "GANFLOW_GRACE_SECONDS": "20",
        "GANFLOW_TRAINJOB": json.dumps(trainjob.spec(Resources(), NODES, IMAGE)),
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, SETTINGS], cwd=place, env=clean | environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


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


def logged(job: Job, text: str, rank: int = 0) -> bool:
    return any(text in line for line in job.pods[rank].log)


def runs(place: Path) -> list[tuple[str, str]]:
    with sqlite3.connect(place / "mlflow.db") as store:
        found: list[tuple[str, str]] = store.execute(
            "SELECT r.run_uuid, r.status FROM runs r WHERE NOT EXISTS (SELECT 1 FROM tags t WHERE t.run_uuid = "
            "r.run_uuid AND t.key = 'ganflow.kubeflow_run')"
        ).fetchall()
    return found


def whole(place: Path, state: State) -> Model:
    """The same training by two processes of one pod."""
    state.environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{place}/whole.db"}
    ended(start(place, state, POD, GANFLOW_PROCESSES="2", KFP_RUN_ID="run-2"))
    return Model(place / "whole")


def assert_same(model: Model, other: Model) -> None:
    assert model.read_card() == other.read_card()
    for name in ("generator.safetensors", "history.jsonl", "history.csv"):
        assert file_hash(model.path / name) == file_hash(other.path / name), name
    assert [path.name for path in sorted(model.samples.iterdir())] == [p.name for p in sorted(other.samples.iterdir())]


@pytest.mark.slow
@pytest.mark.usefixtures("bucket")
def test_two_nodes_train_as_two_processes_of_one_pod(place: Path, kubernetes: State) -> None:
    said = ended(start(place, kubernetes))
    assert "prepared is in s3://checkpoints/runs/run-1/inputs/" in said
    assert "the model of TrainJob ganflow-" in said
    print(said)
    assert "train: 3,200 of 3,200 images (100%)" in said, "the leading node's log"
    [(_, status)] = runs(place)
    assert status == "FINISHED"
    assert_same(Model(place / "model"), whole(place, kubernetes))
    assert (place / "model/checkpoints/provenance.json").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_of_a_node_costs_nothing_but_time(place: Path, kubernetes: State, rank: int) -> None:
    launcher = start(place, kubernetes)
    job = the_job(kubernetes)
    until(lambda: logged(job, "1,2") or logged(job, "960/") or logged(job, "train: 1"))
    workers = [
        child
        for child in psutil.Process(job.pods[rank].process.pid).children(recursive=True)  # type: ignore[union-attr]
        if "train" in child.cmdline() and "torch.distributed.run" not in child.cmdline()
    ]
    assert len(workers) == 1
    workers[0].send_signal(signal.SIGKILL)
    said = ended(launcher)
    assert all(pod.codes for pod in job.pods), "both nodes were started again"
    assert "going on after" in said
    assert len(kubernetes.made) == 1
    [(_, status)] = runs(place)
    assert status == "FINISHED"
    assert_same(Model(place / "model"), whole(place, kubernetes))

"""Training on several nodes, for real: processes under torchrun, a real S3 server, and MLflow."""

import shutil
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from launching import ended, kubernetes, nothing_is_left, start, the_job, until
from servers import s3, weed
from trainer_api import Job, State

from ganflow import steps
from ganflow.artifacts import Model, file_hash
from ganflow.config import Data, Evaluate
from ganflow.objects import Store, open_store

__all__ = ["kubernetes", "nothing_is_left"]

pytestmark = pytest.mark.slow
POD = "import sys; from ganflow import steps; steps.train_in_pod('prepared', 'reference', 'whole', sys.argv[1])"


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
def bucket(place: Path, kubernetes: State, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    if weed() is None:
        pytest.skip("SeaweedFS is not installed")
    with s3(place, "checkpoints") as variables:
        kubernetes.environment |= variables | {"GANFLOW_CHECKPOINTS": "s3://checkpoints/runs"}
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield open_store("s3://checkpoints/runs")


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

"""The outbox and its courier: nothing lost and nothing twice, whoever goes away."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from registered import empty_store, make_model
from servers import free_port, start_mlflow, stop

from ganflow.outbox import Outbox, waiting

TRAINING = """
import sys, time
from pathlib import Path
from ganflow import tracking
from ganflow.artifacts import Model
first, last, pause = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
model = Model(Path("model"))
data = {"name": "shapes", "resolution": 28, "channels": 1, "raw_md5": "a"}
with tracking.training_run({"seed": 0}, data, None, model.mlflow_run) as run:
    for step in range(first, last):
        run.metrics(step, {"loss_d": step / 7, "loss_g": step / 3, "images_per_second": time.time()})
        print(step, flush=True)
        if step % 20 == 0:
            run.grid(step, Path("grid.png"))
        time.sleep(pause)
    if last == 60:
        run.finished(model)
"""


def clean() -> dict[str, str]:
    """The environment without what MLflow itself has set in this process, such as an experiment of another store."""
    return {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}


def train(folder: Path, port: int, first: int, last: int, pause: float = 0.0, **more: str) -> subprocess.Popen[str]:
    environment = clean() | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", **more}
    command = [sys.executable, "-W", "ignore", "-c", TRAINING, str(first), str(last), str(pause)]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def said_step(process: subprocess.Popen[str], step: int) -> None:
    assert process.stdout
    said = []
    for line in process.stdout:
        said.append(line)
        if line.strip() == str(step):
            return
    raise AssertionError(f"the training ended before step {step}: {''.join(said[-9:])}")


def points(folder: Path) -> dict[str, list[int]]:
    """Steps by metric, in the order in which they were logged, duplicates too."""
    with sqlite3.connect(folder / "mlflow.db") as store:
        assert store.execute("select count(*) from runs").fetchone() == (1,), "one training, one run"
        found = store.execute("select key, step from metrics order by rowid").fetchall()
    return {key: [step for k, step in found if k == key] for key in ("loss_d", "loss_g", "images_per_second")}


def status(folder: Path) -> str:
    with sqlite3.connect(folder / "mlflow.db") as store:
        return str(store.execute("select status from runs").fetchone()[0])


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    return empty_store(tmp_path_factory.mktemp("empty"))


@pytest.fixture
def place(empty, tmp_path):
    shutil.copy(empty, tmp_path / "mlflow.db")
    model = make_model(tmp_path / "model", 0)
    model.checkpoints.mkdir()
    Image.new("L", (8, 8), 99).save(tmp_path / "grid.png")
    return tmp_path


OUTAGE = float(os.environ.get("GANFLOW_TEST_OUTAGE_SECONDS", "8"))


@pytest.mark.slow
def test_an_outage_in_the_middle_loses_nothing_and_sends_nothing_twice(place):
    """The server is killed, later frozen, 15 steps long each; the training never waits. 600 seconds: 40 minutes."""
    port = free_port()
    store = f"sqlite:///{place}/mlflow.db"
    server = start_mlflow(place, store, port)
    training = train(place, port, 0, 60, pause=OUTAGE / 15)
    try:
        said_step(training, 10)
        stop(server)
        said_step(training, 25)
        server = start_mlflow(place, store, port)
        said_step(training, 35)
        stop(server, signal.SIGSTOP)
        said_step(training, 50)
        stop(server, signal.SIGCONT)
        said, _ = training.communicate()
        assert training.returncode == 0, said
    finally:
        stop(server)
    assert points(place) == {key: list(range(60)) for key in ("loss_d", "loss_g", "images_per_second")}
    assert status(place) == "FINISHED"
    [images] = place.glob("mlartifacts/*/*/artifacts/images")
    assert len(list(images.glob("samples*.png"))) == 3
    assert waiting(place / "model/outbox") == []


@pytest.mark.slow
def test_a_server_that_comes_only_after_the_training_is_told_all_then(place):
    """Down from the start to the end, and the training killed in between; then another command delivers."""
    port = free_port()
    training = train(place, port, 0, 60, pause=0.05)
    said_step(training, 30)
    training.kill()
    training.communicate()
    said, _ = train(place, port, 20, 60).communicate()  # its last checkpoint was at 20
    assert "does not answer" in said
    assert len(waiting(place / "model/outbox")) == 1
    server = start_mlflow(place, f"sqlite:///{place}/mlflow.db", port)
    try:
        code = "from pathlib import Path; from ganflow import tracking; tracking.deliver(Path('model/outbox'))"
        environment = clean() | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=place, env=environment, check=True)
    finally:
        stop(server)
    assert points(place) == {key: list(range(60)) for key in ("loss_d", "loss_g", "images_per_second")}
    assert status(place) == "FINISHED"


@pytest.mark.slow
def test_a_pod_that_lost_its_disk_goes_on_in_the_same_run(place):
    """Killed, and nothing left of what it kept: the next attempt in the same Kubeflow run finds the MLflow run."""
    port = free_port()
    server = start_mlflow(place, f"sqlite:///{place}/mlflow.db", port)
    try:
        first = train(place, port, 0, 60, pause=0.05, KFP_RUN_ID="run-1")
        said_step(first, 30)
        first.kill()
        first.communicate()
        shutil.rmtree(place / "model/outbox")
        shutil.rmtree(place / "model/checkpoints")
        (place / "model/checkpoints").mkdir()
        said, _ = train(place, port, 20, 60, KFP_RUN_ID="run-1").communicate()
    finally:
        stop(server)
    with sqlite3.connect(place / "mlflow.db") as store:
        query = "select run_uuid, step from metrics where key = 'loss_d' order by step"
        found = store.execute(query).fetchall()
    assert len({run for run, _ in found}) == 1, said
    assert [step for _, step in found] == list(range(60))


def test_the_outbox_keeps_each_step_once_and_drops_a_torn_line(tmp_path):
    outbox = Outbox.new(tmp_path)
    for step in (1, 2):
        outbox.put({"kind": "metrics", "images": step, "values": {"loss_d": step}, "time": 0})
    with outbox.file.open("a") as file:
        file.write('{"kind": "met')
    [again] = waiting(tmp_path)
    for step in (2, 3):
        again.put({"kind": "metrics", "images": step, "values": {"loss_d": step, "fid": 1.0}, "time": 0})
    lines = [json.loads(line) for line in again.file.read_text().splitlines()]
    assert [(line["images"], sorted(line["values"])) for line in lines] == [
        (1, ["loss_d"]), (2, ["loss_d"]), (2, ["fid"]), (3, ["fid", "loss_d"]),
    ]  # fmt: skip


def test_an_outbox_keeps_a_file_that_goes_away(tmp_path):
    outbox = Outbox.new(tmp_path / "outbox")
    (tmp_path / "grid.png").write_bytes(b"grid")
    name = outbox.keep(tmp_path / "grid.png")
    (tmp_path / "grid.png").unlink()
    assert (outbox.folder / name).read_bytes() == b"grid"

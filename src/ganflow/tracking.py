"""One MLflow run a training. MLflow's own environment variables say where (default: sqlite:///mlflow.db here)."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow
from mlflow.entities import RunInfo
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ganflow.artifacts import Model, Prepared, fingerprint, read_json
from ganflow.courier import Courier, remember
from ganflow.errors import Interrupted, RegistryError
from ganflow.history import read_history
from ganflow.outbox import Outbox, waiting
from ganflow.pipeline_run import choose_experiment, experiment_name, find_run

GENERATOR = "ganflow.generator_sha256"
DATA_FOLDER = "data"
"""Where a training's data card lies among its run's artifacts."""
SBOM = "GANFLOW_SBOM"
"""Environment variable: the bill of materials of the container image, CycloneDX; the images set it."""
START_SECONDS, GRACE_SECONDS = 20.0, 30.0
"""How long a training waits for a server that is down, before it begins and when it ends."""


@contextmanager
def mlflow_errors() -> Iterator[None]:
    """Turn MLflow's exceptions into a RegistryError that names the server."""
    try:
        yield
    except MlflowException as error:
        message = str(error).splitlines()[0].rstrip(".")
        raise RegistryError(
            f"MLflow at {mlflow.get_tracking_uri()} says: {message}; check MLFLOW_TRACKING_URI"
        ) from error


def require_writable() -> str:
    """Make a run with a metric and an artifact, and delete it again; returns the server's address.

    Raises RegistryError that names the cure where the server is down, refuses this host's name for it, or says no.
    """
    where = str(mlflow.get_tracking_uri())
    client = MlflowClient()
    try:
        with scratch_run() as run:
            client.log_metric(run.run_id, "doctor", 1.0)
            client.log_text(run.run_id, "doctor", "doctor.txt")
    except MlflowException as error:
        said = str(error).splitlines()[0].rstrip(".")
        host = urlsplit(where).netloc
        if "Invalid Host" in said:
            raise RegistryError(
                f"MLflow refuses its own name {host}; start `mlflow server` with --allowed-hosts {host}"
            ) from error
        raise RegistryError(
            f"MLflow at {where} does not take a run: {said}; check MLFLOW_TRACKING_URI, the user's rights, the server"
        ) from error
    except Exception as error:  # an artifact store raises whatever it likes
        raise RegistryError(
            f"MLflow at {where} takes runs and not their artifacts: {error}; check the artifact store, its credentials"
        ) from error
    return where


@contextmanager
def scratch_run() -> Iterator[RunInfo]:
    """A run of our experiment that is deleted in the end."""
    client = MlflowClient()
    choose_experiment()
    experiment = os.environ.get("MLFLOW_EXPERIMENT_ID") or mlflow.set_experiment(experiment_name()).experiment_id
    run = client.create_run(experiment, run_name="doctor")
    try:
        yield run.info
    finally:
        client.delete_run(run.info.run_id)


class TrainingRun:
    """The MLflow run of a training: a `training.Log` that never waits for the server.

    Everything goes into an outbox on disk, and a thread delivers it: in order, and each thing once, however often the
    server, or this process, goes away.
    """

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.courier = Courier(outbox)

    @property
    def id(self) -> str:
        """Of the run on the server."""
        assert self.outbox.run_id, "asked before it was delivered"
        return self.outbox.run_id

    def metrics(self, images: int, values: dict[str, float]) -> None:
        """Metrics at the step `images`, unless an earlier attempt logged them."""
        self.outbox.put({"kind": "metrics", "images": images, "values": values, "time": _now()})

    def grid(self, images: int, path: Path) -> None:
        """The grid, as MLflow shows it: one slider over the images seen."""
        self.outbox.put({"kind": "grid", "images": images, "file": self.outbox.keep(path)})

    def kept(self, images: int, generator: Path, values: dict[str, float]) -> None:
        """A generator that is kept, as a LoggedModel with its metrics: `mlflow.search_logged_models` finds the best."""
        file = self.outbox.keep(generator)
        self.outbox.put({"kind": "model", "images": images, "file": file, "values": values, "time": _now()})

    def data_card(self, prepared: Prepared) -> None:
        """The data card of what is trained on: the page, the picture and the numbers."""
        files = [prepared.page, prepared.montage, prepared.findings]
        record = {"kind": "files", "folder": DATA_FOLDER, "files": [self.outbox.keep(path) for path in files]}
        self.outbox.put(record | {"tags": {}})

    def finished(self, model: Model) -> None:
        """Tag the run with its model's hash, and keep the model's files and the last training state."""
        # The run's own last state has a number; a concluded one is final.
        states = sorted(model.checkpoints.glob("[0-9]*.safetensors")) or sorted(model.checkpoints.glob("*.safetensors"))
        files = [model.card, model.generator, model.history, *states[-1:]]
        if bill := os.environ.get(SBOM):
            files.append(Path(bill))
        tags = {GENERATOR: model.read_card()["generator_sha256"]}
        self.outbox.put({"kind": "files", "files": [self.outbox.keep(path) for path in files], "tags": tags})


@contextmanager
def training_run(
    parameters: dict[str, Any],
    data: dict[str, Any],
    git: dict[str, Any] | None,
    memory: Path | None = None,
) -> Iterator[TrainingRun]:
    """The run of this training: the one that the file `memory` names, or a new one, which it then names.

    It ends as FINISHED, KILLED when the training was interrupted, or FAILED. A server that is down stops nothing: what
    it does not take is kept beside `memory` and delivered by the next attempt, or by `run_of`. Raises RegistryError
    when the server says no.
    """
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # the courier has a patience of its own
    with _outbox(memory, _pod_token(parameters, data)) as outbox:
        run, status = TrainingRun(outbox), "FAILED"
        outbox.put(
            {"kind": "begin", "parameters": parameters, "data": data, "git": git, "memory": memory and str(memory)}
        )
        begun = len(outbox.records)
        run.courier.start()
        run.courier.wait(lambda: run.courier.delivered >= begun, START_SECONDS, patient=False)
        _complain(run.courier)
        try:
            yield run
            status = "FINISHED"
        except Interrupted:
            status = "KILLED"
            raise
        finally:
            outbox.put({"kind": "end", "status": status, "time": _now()})
            run.courier.wait(run.courier.ended, GRACE_SECONDS, patient=True)
            if run.courier.ended():
                outbox.remove()
        _complain(run.courier)
        if memory is None and not run.courier.ended():
            raise RegistryError(f"MLflow at {mlflow.get_tracking_uri()} is down ({run.courier.trouble}); try again")


def deliver(parent: Path) -> None:
    """Deliver what is left in the outboxes below a folder. Raises RegistryError when the server does not take it."""
    for outbox in waiting(parent):
        if not (outbox.records and outbox.records[-1]["kind"] == "end"):
            outbox.put({"kind": "end", "status": "KILLED", "time": _now()})
        courier = Courier(outbox)
        courier.start()
        courier.wait(courier.ended, GRACE_SECONDS, patient=True)
        if not courier.ended():
            raise RegistryError(
                f"MLflow at {mlflow.get_tracking_uri()} does not take what waits in {outbox.folder} "
                f"({courier.trouble}); check MLFLOW_TRACKING_URI, and try again"
            )
        outbox.remove()


def run_of(model: Model) -> str:
    """Id of the run that made the model; where the server has none, it is written anew from the model's files."""
    deliver(outboxes(model.mlflow_run))
    card = model.read_card()
    with mlflow_errors():
        choose_experiment()
        found = find_run(f"tags.`{GENERATOR}` = '{card['generator_sha256']}'")
    if found:
        return found
    kept = read_json(model.provenance) if model.provenance.exists() else {}
    with training_run(card["parameters"], card["data"], kept.get("git")) as run:
        for record in read_history(model.history):
            images = int(record.pop("images"))
            run.metrics(images, record)
            if images == card["images_seen"]:
                run.kept(images, model.generator, record)
        for path in sorted(model.samples.glob("*.png")):
            run.grid(int(path.stem), path)
        run.finished(model)
    return run.id


def outboxes(memory: Path) -> Path:
    """Where the outboxes of a training are: beside its checkpoints, which a new training removes."""
    return memory.parent.with_name("outbox")


def _pod_token(parameters: dict[str, Any], data: dict[str, Any]) -> str | None:
    """In a pod the outbox has a name that another pod gives again: the run of one that was lost is found by it."""
    kubeflow = os.environ.get("KFP_RUN_ID")
    return fingerprint([kubeflow, parameters, data])[:32] if kubeflow else None


@contextmanager
def _outbox(memory: Path | None, token: str | None) -> Iterator[Outbox]:
    """The outbox of the training that the file `memory` names, or a new one, which it then names."""
    if memory is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Outbox.new(Path(folder))
        return
    known = read_json(memory) if memory.exists() else {}
    parent = outboxes(memory)
    outbox = Outbox(parent / known["outbox"]) if "outbox" in known else Outbox.new(parent, token)
    if "run_id" in known and outbox.run_id is None:
        outbox.run_id = known["run_id"]
    remember(memory, outbox)
    yield outbox


def _complain(courier: Courier) -> None:
    """Raise RegistryError when the server said no; say so when it is down."""
    trouble = str(courier.trouble).splitlines()[0].rstrip(".") if courier.trouble else ""
    if courier.refused:
        raise RegistryError(f"MLflow at {mlflow.get_tracking_uri()} says: {trouble}; check MLFLOW_TRACKING_URI")
    left = len(courier.outbox.records) - courier.delivered
    if left:
        print(
            f"ganflow: MLflow at {mlflow.get_tracking_uri()} does not answer ({trouble or 'it is slow'}); {left} "
            f"records wait in {courier.outbox.folder} and are sent when it does, by `ganflow register` at the latest",
            file=sys.stderr,
        )


def _now() -> int:
    return int(time.time() * 1000)

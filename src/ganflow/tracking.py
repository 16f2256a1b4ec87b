"""One MLflow run a training. MLflow's own environment variables say where (default: sqlite:///mlflow.db here)."""

import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from PIL import Image

from ganflow.artifacts import Model, Prepared, fingerprint, read_json, write_json
from ganflow.errors import Interrupted, RegistryError
from ganflow.history import read_history
from ganflow.outbox import Outbox, Record, waiting
from ganflow.pipeline_run import choose_experiment, find_run, pipeline_run

GENERATOR = "ganflow.generator_sha256"
FOLDER = "train"
"""Where a training's files lie among its run's artifacts."""
DATA_FOLDER = "data"
"""And its data card."""
TOKEN = "ganflow.outbox"
"""Tag of a run that tells which outbox began it: a run whose beginning was not acknowledged is found again."""
REFUSALS = (
    "BAD_REQUEST", "INVALID_PARAMETER_VALUE", "INVALID_STATE", "NOT_FOUND", "PERMISSION_DENIED",
    "RESOURCE_DOES_NOT_EXIST", "UNAUTHENTICATED",
)  # fmt: skip
"""Answers; all else is an outage."""
IDLE_SECONDS, RETRY_SECONDS, MAX_RETRY_SECONDS = 0.05, 0.5, 10.0
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
        last = read_history(model.history)[-1]
        self.kept(int(last.pop("images")), model.generator, last)
        files = [model.card, model.generator, model.history, *states[-1:]]
        tags = {GENERATOR: model.read_card()["generator_sha256"]}
        self.outbox.put({"kind": "files", "files": [self.outbox.keep(path) for path in files], "tags": tags})


class Courier(threading.Thread):
    """Delivers an outbox, record by record, and tries again until the server takes it."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__(daemon=True)
        self.outbox, self.delivered = outbox, 0
        self.trouble: Exception | None = None
        """Why the last attempt failed; None when it did not."""
        self.refused = False
        """The server answered, and said no: trying again is no use."""

    def run(self) -> None:
        """Until the record `end` was delivered, or the server says no."""
        wait = RETRY_SECONDS
        while not self.refused and not self.ended():
            try:
                self._deliver()
                self.trouble, wait = None, RETRY_SECONDS
                time.sleep(IDLE_SECONDS)
            except Exception as error:  # an artifact store raises whatever it likes
                self.trouble = error
                self.refused = isinstance(error, MlflowException) and error.error_code in REFUSALS
                time.sleep(wait)
                wait = min(2 * wait, MAX_RETRY_SECONDS)

    def ended(self) -> bool:
        """Whether everything was delivered, and nothing more comes."""
        records = self.outbox.records
        return self.delivered == len(records) and bool(records) and records[-1]["kind"] == "end"

    def _deliver(self) -> None:
        if self.delivered == len(self.outbox.records):
            return
        run = _Delivery(self.outbox)
        while self.delivered < len(self.outbox.records):
            run.send(self.outbox.records[self.delivered])
            self.trouble = None
            self.delivered += 1

    def wait(self, until: Callable[[], bool], seconds: float, patient: bool) -> None:
        """Until it is so, the server says no, or there was trouble for this long; unless `patient`, at most so long."""
        since = time.monotonic()
        while not (until() or self.refused) and time.monotonic() - since < seconds:
            if patient and self.trouble is None:
                since = time.monotonic()
            time.sleep(IDLE_SECONDS)


class _Delivery:
    """A connection to the run on the server, which knows what is there already."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox, self.client = outbox, MlflowClient()
        self.steps: dict[str, int] = {}
        self.drawn: set[int] | None = None

    def send(self, record: Record) -> None:
        """Deliver a record; one that the server has already, from an attempt whose answer was lost, is left out."""
        getattr(self, f"_{record['kind']}")(record)

    def _begin(self, record: Record) -> None:
        choose_experiment()
        # Active runs belong to a thread: this one's stays, since ending it here would end it on the server.
        # The run that Kubeflow injected is named, since start_run forgets it before it has asked the server.
        active = mlflow.active_run() or mlflow.start_run(
            run_id=self._run() or os.environ.get("MLFLOW_RUN_ID"),
            tags={TOKEN: self.outbox.token},
            parent_run_id=pipeline_run(),
        )
        self.client.update_run(active.info.run_id, status="RUNNING")
        self.outbox.run_id = active.info.run_id
        _describe(record["parameters"], record["data"], record["git"])
        if memory := record["memory"]:
            _remember(Path(memory), self.outbox)

    def _run(self) -> str | None:
        """The run that this outbox has begun, if the server knows it."""
        run_id = self.outbox.run_id
        if run_id is None:
            return find_run(f"tags.`{TOKEN}` = '{self.outbox.token}'")
        try:
            self.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return run_id

    def _metrics(self, record: Record) -> None:
        step, now = record["images"], record["time"]
        fresh = {key: value for key, value in record["values"].items() if step > self._last(key)}
        # A metric of the same time, step and value is one and the same to MLflow: a lost answer does no harm.
        self.client.log_batch(self._id(), [Metric(key, value, now, step) for key, value in fresh.items()])
        self.steps |= dict.fromkeys(fresh, step)

    def _last(self, key: str) -> int:
        if key not in self.steps:
            history = self.client.get_metric_history(self._id(), key)
            self.steps[key] = max((metric.step for metric in history), default=-1)
        return self.steps[key]

    def _grid(self, record: Record) -> None:
        if self.drawn is None:
            # MLflow names an image samples%step%<step>%<time>…
            names = [file.path for file in self.client.list_artifacts(self._id(), "images")]
            self.drawn = {int(found.group(1)) for name in names if (found := re.search(r"step\D+(\d+)", name))}
        if record["images"] not in self.drawn:
            with Image.open(self.outbox.folder / record["file"]) as picture:
                self.client.log_image(self._id(), picture, key="samples", step=record["images"], synchronous=True)
        self.drawn.add(record["images"])

    def _model(self, record: Record) -> None:
        run = self.client.get_run(self._id())
        name, experiment = f"generator-{record['images']:09d}", run.info.experiment_id
        condition = f"name = '{name}' AND source_run_id = '{self._id()}'"
        found = list(self.client.search_logged_models([experiment], filter_string=condition))
        made = (
            found[0] if found else self.client.create_logged_model(experiment, name, self._id(), model_type="generator")
        )
        self.client.log_model_artifact(made.model_id, str(self.outbox.folder / record["file"]))
        self.client.finalize_logged_model(made.model_id, "READY")
        data = run.inputs.dataset_inputs[0].dataset
        # A name of its own: the run has these values already, and a step logged again is a second point.
        metrics = [
            Metric(
                f"kept_{key}",
                value,
                record["time"],
                record["images"],
                made.model_id,
                data.name,
                data.digest,
                self._id(),
            )
            for key, value in record["values"].items()
        ]
        self.client.log_batch(self._id(), metrics)

    def _files(self, record: Record) -> None:
        for name in record["files"]:
            self.client.log_artifact(self._id(), str(self.outbox.folder / name), record.get("folder", FOLDER))
        for key, value in record["tags"].items():
            self.client.set_tag(self._id(), key, value)

    def _end(self, record: Record) -> None:
        self.client.set_terminated(self._id(), record["status"], record["time"])

    def _id(self) -> str:
        assert self.outbox.run_id, "a run begins before anything else"
        return self.outbox.run_id


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
    with _outbox(memory) as outbox:
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
            run.metrics(int(record.pop("images")), record)
        for path in sorted(model.samples.glob("*.png")):
            run.grid(int(path.stem), path)
        run.finished(model)
    return run.id


def outboxes(memory: Path) -> Path:
    """Where the outboxes of a training are: beside its checkpoints, which a new training removes."""
    return memory.parent.with_name("outbox")


@contextmanager
def _outbox(memory: Path | None) -> Iterator[Outbox]:
    """The outbox of the training that the file `memory` names, or a new one, which it then names."""
    if memory is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Outbox.new(Path(folder))
        return
    known = read_json(memory) if memory.exists() else {}
    parent = outboxes(memory)
    outbox = Outbox(parent / known["outbox"]) if "outbox" in known else Outbox.new(parent)
    if "run_id" in known and outbox.run_id is None:
        outbox.run_id = known["run_id"]
    _remember(memory, outbox)
    yield outbox


def _remember(memory: Path, outbox: Outbox) -> None:
    """Write down the outbox, and the run once there is one; not when the training was concluded meanwhile."""
    if memory.parent.is_dir():
        write_json(memory, {"outbox": outbox.token} | ({"run_id": outbox.run_id} if outbox.run_id else {}))


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


def _describe(parameters: dict[str, Any], data: dict[str, Any], git: dict[str, Any] | None) -> None:
    mlflow.log_params({**parameters, "resolution": data["resolution"], "channels": data["channels"]})
    mlflow.log_input(
        MetaDataset(LocalArtifactDatasetSource(data["name"]), name=data["name"], digest=data["raw_md5"]), "training"
    )
    tags = {"ganflow.data_md5": data["raw_md5"], "ganflow.parameters_sha256": fingerprint(parameters)}
    if git:
        tags |= {"ganflow.git_revision": git["revision"], "ganflow.git_dirty": git["dirty"]}
    mlflow.set_tags(tags)
    if git and git.get("diff"):
        mlflow.log_text(git["diff"], "uncommitted.diff")

"""One MLflow run a training. MLflow's own environment variables say where (default: sqlite:///mlflow.db here)."""

import os
import re
import time
from collections.abc import Iterator
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

from ganflow.artifacts import Model, fingerprint, read_json, write_json
from ganflow.errors import Interrupted, RegistryError
from ganflow.history import read_history

EXPERIMENT = "ganflow"
GENERATOR = "ganflow.generator_sha256"
FOLDER = "train"
"""Where a training's files lie among its run's artifacts."""


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
    """The MLflow run of a training: a `training.Log`. An attempt that is attached to again logs no step twice."""

    def __init__(self, run_id: str) -> None:
        self.id = run_id
        self.client = MlflowClient()
        self.logged = max((metric.step for metric in self.client.get_metric_history(run_id, "loss_d")), default=-1)
        # MLflow names an image samples%step%<step>%<time>…
        names = [file.path for file in self.client.list_artifacts(run_id, "images")]
        self.drawn = {int(found.group(1)) for name in names if (found := re.search(r"step\D+(\d+)", name))}

    def metrics(self, images: int, values: dict[str, float]) -> None:
        """Metrics at the step `images`, unless an earlier attempt logged it."""
        if images > self.logged:
            now = int(time.time() * 1000)
            self.client.log_batch(self.id, [Metric(key, value, now, images) for key, value in values.items()])

    def grid(self, images: int, path: Path) -> None:
        """The grid, as MLflow shows it: one slider over the images seen."""
        if images not in self.drawn:
            with Image.open(path) as picture:
                self.client.log_image(self.id, picture, key="samples", step=images, synchronous=True)

    def finished(self, model: Model) -> None:
        """Tag the run with its model's hash, and keep the model's files and the last training state."""
        # The run's own last state has a number; a concluded one is final.
        states = sorted(model.checkpoints.glob("[0-9]*.safetensors")) or sorted(model.checkpoints.glob("*.safetensors"))
        for path in (model.card, model.generator, model.history, *states[-1:]):
            self.client.log_artifact(self.id, str(path), FOLDER)
        self.client.set_tag(self.id, GENERATOR, model.read_card()["generator_sha256"])


@contextmanager
def training_run(
    parameters: dict[str, Any], data: dict[str, Any], git: dict[str, Any] | None, memory: Path | None = None
) -> Iterator[TrainingRun]:
    """The run of this training: the one that the file `memory` names, or a new one, which it then names.

    It ends as FINISHED, KILLED when the training was interrupted, or FAILED.
    """
    status = "FAILED"
    with mlflow_errors():
        _choose_experiment()
        active = mlflow.start_run(run_id=_remembered(memory))
        try:
            if memory:
                write_json(memory, {"run_id": active.info.run_id})
            _describe(parameters, data, git)
            yield TrainingRun(active.info.run_id)
            status = "FINISHED"
        except Interrupted:
            status = "KILLED"
            raise
        finally:
            mlflow.end_run(status)


def run_of(model: Model) -> str:
    """Id of the run that made the model; where the server has none, it is written anew from the model's files."""
    card = model.read_card()
    with mlflow_errors():
        _choose_experiment()
        found = _search(f"tags.`{GENERATOR}` = '{card['generator_sha256']}'")
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


def _describe(parameters: dict[str, Any], data: dict[str, Any], git: dict[str, Any] | None) -> None:
    mlflow.log_params({**parameters, "resolution": data["resolution"], "channels": data["channels"]})
    mlflow.log_input(
        MetaDataset(LocalArtifactDatasetSource(data["name"]), name=data["name"], digest=data["raw_md5"]), "training"
    )
    tags = {"ganflow.data_md5": data["raw_md5"], "ganflow.parameters_sha256": fingerprint(parameters)}
    if git:
        tags |= {"ganflow.git_revision": git["revision"], "ganflow.git_dirty": git["dirty"]}
    mlflow.set_tags(tags)


def _choose_experiment() -> None:
    if not {"MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"} & set(os.environ):
        mlflow.set_experiment(EXPERIMENT)


def _remembered(memory: Path | None) -> str | None:
    """The run that the file names, if the server knows it."""
    if memory is None or not memory.exists():
        return None
    run_id: str = read_json(memory)["run_id"]
    try:
        MlflowClient().get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return run_id


def _search(condition: str) -> str | None:
    """Id of the newest run that fulfils the condition, in the current experiment."""
    runs = mlflow.search_runs(
        filter_string=condition, order_by=["attributes.start_time DESC"], max_results=1, output_format="list"
    )
    return runs[0].info.run_id if runs else None

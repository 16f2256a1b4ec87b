"""One MLflow run a training. MLflow's own environment variables say where (default: sqlite:///mlflow.db here)."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.entities import Metric, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from PIL import Image

from ganflow.artifacts import Model, fingerprint
from ganflow.errors import Interrupted, RegistryError
from ganflow.history import read_history, run_identity
from ganflow.lineage import git_state

EXPERIMENT = "ganflow"
IDENTITY, GENERATOR = "ganflow.identity", "ganflow.generator_sha256"
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

    def metrics(self, images: int, values: dict[str, float]) -> None:
        """Metrics at the step `images`, unless an earlier attempt logged it."""
        if images > self.logged:
            now = int(time.time() * 1000)
            self.client.log_batch(self.id, [Metric(key, value, now, images) for key, value in values.items()])

    def grid(self, images: int, path: Path) -> None:
        """The grid, as MLflow shows it: one slider over the images seen."""
        if images > self.logged:
            with Image.open(path) as picture:
                self.client.log_image(self.id, picture, key="samples", step=images, synchronous=True)

    def finished(self, model: Model) -> None:
        """Tag the run with its model's hash, and keep the model's files and the last training state."""
        states = sorted(model.checkpoints.glob("*.safetensors"))
        for path in (model.card, model.generator, model.history, *states[-1:]):
            self.client.log_artifact(self.id, str(path), FOLDER)
        self.client.set_tag(self.id, GENERATOR, model.read_card()["generator_sha256"])


@contextmanager
def training_run(parameters: dict[str, Any], data: dict[str, Any], resume: bool) -> Iterator[TrainingRun]:
    """The run of this training: with `resume`, the unfinished run of the same parameters and data, if there is one.

    It ends as FINISHED, KILLED when the training was interrupted, or FAILED.
    """
    _choose_experiment()
    identity = run_identity(parameters, data)
    status = "FAILED"
    with mlflow_errors():
        active = mlflow.start_run(run_id=_unfinished(identity) if resume else None)
        try:
            _describe(identity, parameters, data)
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
    with training_run(card["parameters"], card["data"], resume=False) as run:
        for record in read_history(model.history):
            run.metrics(int(record.pop("images")), record)
        for path in sorted(model.samples.glob("*.png")):
            run.grid(int(path.stem), path)
        run.finished(model)
    return run.id


def _describe(identity: str, parameters: dict[str, Any], data: dict[str, Any]) -> None:
    git = git_state() or {}
    mlflow.log_params({**parameters, "resolution": data["resolution"], "channels": data["channels"]})
    mlflow.log_input(
        MetaDataset(LocalArtifactDatasetSource(data["name"]), name=data["name"], digest=data["raw_md5"]), "training"
    )
    mlflow.set_tags(
        {
            IDENTITY: identity,
            "ganflow.git_revision": git.get("revision"),
            "ganflow.git_dirty": git.get("dirty"),
            "ganflow.data_md5": data["raw_md5"],
            "ganflow.parameters_sha256": fingerprint(parameters),
        }
    )


def _choose_experiment() -> None:
    if not {"MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"} & set(os.environ):
        mlflow.set_experiment(EXPERIMENT)


def _unfinished(identity: str) -> str | None:
    finished = RunStatus.to_string(RunStatus.FINISHED)
    return _search(f"tags.`{IDENTITY}` = '{identity}' and attributes.status != '{finished}'")


def _search(condition: str) -> str | None:
    """Id of the newest run that fulfils the condition, in the current experiment."""
    runs = mlflow.search_runs(
        filter_string=condition, order_by=["attributes.start_time DESC"], max_results=1, output_format="list"
    )
    return runs[0].info.run_id if runs else None

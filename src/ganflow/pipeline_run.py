"""The MLflow run of a whole pipeline run: its trainings nest in it, its steps note what they found there.

Kubeflow's own MLflow plugin, where a cluster has it, makes that run and one within it for each task, and names the
task's in MLFLOW_RUN_ID. Without the plugin the run is ours, found again by the id of the Kubeflow run (KFP_RUN_ID).
"""

import os
import time
from collections.abc import Mapping
from typing import Any

import mlflow
from mlflow.entities import Metric, RunTag
from mlflow.tracking import MlflowClient

EXPERIMENT = "ganflow"
PARENT = "GANFLOW_PARENT_RUN"
"""Environment variable: id of the MLflow run that a training is nested in, for sweeps."""
KUBEFLOW = "ganflow.kubeflow_run"
"""Tag of the run of a whole pipeline run: the id that Kubeflow has given to it."""
NESTED = "mlflow.parentRunId"
SETTLE_SECONDS = 2.0
"""For longer than it takes to make a run."""


def choose_experiment() -> None:
    """Our experiment, unless MLflow's environment names another; the one of an injected run comes first."""
    if run_id := os.environ.get("MLFLOW_RUN_ID"):
        # A name beside the plugin's own id is an error to MLflow, and the run has its experiment anyway.
        os.environ.pop("MLFLOW_EXPERIMENT_NAME", None)
        os.environ["MLFLOW_EXPERIMENT_ID"] = MlflowClient().get_run(run_id).info.experiment_id
    elif "MLFLOW_EXPERIMENT_ID" not in os.environ:
        # Of two that make it at once, the second finds it; but MLflow then does not take note of it by itself.
        os.environ["MLFLOW_EXPERIMENT_ID"] = mlflow.set_experiment(experiment_name()).experiment_id


def find_run(condition: str, oldest: bool = False) -> str | None:
    """Id of the newest run, or the oldest, that fulfils the condition, in the current experiment."""
    order = "ASC" if oldest else "DESC"
    runs = mlflow.search_runs(
        filter_string=condition, order_by=[f"attributes.start_time {order}"], max_results=1, output_format="list"
    )
    return runs[0].info.run_id if runs else None


def pipeline_run() -> str | None:
    """Id of the MLflow run of this pipeline run, made if need be; None outside of pipelines.

    Choose an experiment first. GANFLOW_PARENT_RUN names the run; else it is what Kubeflow's plugin made, or the run
    with this Kubeflow run's id.
    """
    if named := os.environ.get(PARENT):
        return named
    if task := os.environ.get("MLFLOW_RUN_ID"):
        parent: str | None = MlflowClient().get_run(task).data.tags.get(NESTED)
        return parent
    kubeflow = os.environ.get("KFP_RUN_ID")
    return _ours(kubeflow) if kubeflow else None


def note(tags: Mapping[str, str], metrics: Mapping[str, float]) -> None:
    """Write into the run of this pipeline run; outside of pipelines this does nothing."""
    choose_experiment()
    if run_id := pipeline_run():
        write(run_id, tags, metrics)


def write(run_id: str, tags: Mapping[str, str], metrics: Mapping[str, float]) -> None:
    """Write tags and metrics into a run; the same again adds nothing."""
    client = MlflowClient()
    known = client.get_run(run_id).data.metrics
    fresh = [Metric(key, value, 0, 0) for key, value in metrics.items() if known.get(key) != value]
    client.log_batch(run_id, metrics=fresh, tags=[RunTag(key, value) for key, value in tags.items()])


def noted(run_id: str) -> tuple[dict[str, str], dict[str, float]]:
    """What the steps wrote into a run: our tags, and the metrics."""
    data = MlflowClient().get_run(run_id).data
    return {key: value for key, value in data.tags.items() if key.startswith("ganflow.")}, dict(data.metrics)


def end(run_id: str, state: str, files: list[str]) -> None:
    """Keep the files with the run, and end it as Kubeflow's `state` says; the plugin's own run ends by itself."""
    client = MlflowClient()
    for file in files:
        client.log_artifact(run_id, file)
    if "MLFLOW_RUN_ID" in os.environ:
        return
    ends: dict[str, Any] = {"SUCCEEDED": "FINISHED", "CANCELED": "KILLED", "CANCELLED": "KILLED"}
    client.set_terminated(run_id, ends.get(state, "FAILED"))


def _ours(kubeflow: str) -> str:
    """Two tasks may begin it at once: both wait until they see each other; the older run stays, the other goes."""
    condition = f"tags.`{KUBEFLOW}` = '{kubeflow}'"
    if found := find_run(condition, oldest=True):
        return found
    client = MlflowClient()
    experiment = os.environ.get("MLFLOW_EXPERIMENT_ID") or mlflow.set_experiment(experiment_name()).experiment_id
    made: str = client.create_run(
        experiment, tags={KUBEFLOW: kubeflow}, run_name=f"pipeline {kubeflow[:8]}"
    ).info.run_id
    time.sleep(SETTLE_SECONDS)
    first = find_run(condition, oldest=True) or made
    if first != made:
        client.delete_run(made)
    return first


def experiment_name() -> str:
    """Of the experiment that runs go to."""
    return os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)


def link(run_id: str) -> str | None:
    """Address of a run in MLflow's pages, where the tracking server has pages."""
    place = mlflow.get_tracking_uri().rstrip("/")
    if not place.startswith("http"):
        return None
    return f"{place}/#/experiments/{MlflowClient().get_run(run_id).info.experiment_id}/runs/{run_id}"

"""The task that trains on several nodes: a TrainJob, made or found again, followed to its end, and its model.

In the store that GANFLOW_CHECKPOINTS names lie, below the run's id: inputs/<sha256>/, the folders that the nodes
fetch; <identity>/model/, which the leading node sends; and the checkpoints (training/mirror.py). The job's name is a
function of the run, the inputs and the parameters: a launcher that is tried again finds the job of the one before. The
job belongs to the launcher's pod, so that it goes with it where no SIGTERM came.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ganflow.artifacts import Model, fingerprint, new_folder
from ganflow.cluster import Cluster, Job, rank_of
from ganflow.errors import ConfigError, GanflowError, Interrupted
from ganflow.handover import bring, is_whole, listing, send
from ganflow.joblog import JobLog
from ganflow.objects import Store, open_store
from ganflow.trainjob import TRAINJOB, manifest

CHECKPOINTS, GRACE = "GANFLOW_CHECKPOINTS", "GANFLOW_GRACE_SECONDS"
PASSED_ON = ("KFP_RUN_ID", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "GANFLOW_PARENT_RUN")
"""Environment variables that the nodes get from the launcher: what only the run knows."""
POLL_SECONDS = 2.0
WAKE_SECONDS = 0.1
"""Kubeflow's own launcher dies of the SIGTERM that reaches this process, and the pod with it: no time is lost."""
EXIT_PATIENCE_SECONDS = 60.0
"""How long the exit task asks an API server that does not answer."""
GONE_SECONDS = 300.0
"""How long the pods of a job that ended may take to go."""


@dataclass(frozen=True)
class Order:
    """What is to be trained: keys in the store, and the job's name."""

    prepared: str
    reference: str
    model: str
    name: str

    def command(self, section: str) -> list[str]:
        """What a node runs."""
        return ["python", "-m", "ganflow", "train-node", self.prepared, self.reference, self.model, section]


def launch(prepared: Path, reference: Path, out: Path, section: str, stop: Callable[[], bool]) -> None:
    """Train on the nodes of a TrainJob; `out` gets the model. `section` is the section `train` as JSON.

    `stop` is asked all the time: the job is deleted then. Raises ConfigError where the environment lacks something,
    GanflowError when the job fails, vanishes or cannot be made, StoreError, and Interrupted.
    """
    store, spec = open_store(_variable(CHECKPOINTS)), json.loads(_variable(TRAINJOB))
    run = os.environ.get("KFP_RUN_ID", "local")
    folders = {path: listing(path) for path in (prepared, reference)}
    inputs = {path: f"{run}/inputs/{fingerprint(files)[:32]}" for path, files in folders.items()}
    identity = fingerprint([run, *inputs.values(), section])[:32]
    order = Order(inputs[prepared], inputs[reference], f"{run}/{identity}/model", f"ganflow-{identity[:16]}")
    if not is_whole(store, order.model):
        for path, files in folders.items():
            _send_once(store, path, inputs[path], files)
        environment = {name: os.environ[name] for name in PASSED_ON if os.environ.get(name)}
        body = manifest(order.name, spec, order.command(section), environment, _owner())
        _Launched(body, stop).to_its_end()
        if not is_whole(store, order.model):
            raise GanflowError(
                f"TrainJob {order.name} is complete, and {store.url}/{order.model} has no model; look at the "
                "log of its nodes, and try again"
            )
    with new_folder(Model, out) as made:
        bring(store, order.model, made.path)
        made.read_card()
    _say(f"the model of TrainJob {order.name} is here")


def end_jobs(run: str) -> None:
    """Delete the TrainJobs of a Kubeflow run that go on: their launchers were killed before they could do it.

    For the exit task, when no launcher is left. A cluster that does not answer is said, and no error.
    """
    try:
        cluster = Cluster(patience_seconds=EXIT_PATIENCE_SECONDS)
        for name in cluster.going_on(run):
            cluster.delete(name)
            _say(f"TrainJob {name} had lost its launcher; it is deleted")
    except GanflowError as error:
        _say(f"TrainJobs may be left of run {run}: {error}")


class _Launched:
    """A TrainJob in this launcher's care."""

    def __init__(self, body: dict[str, Any], stop: Callable[[], bool]) -> None:
        self.body, self.stop = body, stop
        self.name: str = body["metadata"]["name"]
        self.cluster = Cluster(pause=self._pause)

    def to_its_end(self) -> None:
        """Make the job or find it, and follow it; its log goes to standard output."""
        try:
            self._begin()
            with JobLog(self.name) as log:
                job = self._followed()
        except Interrupted:
            self._cancel()
            raise
        if job.end == "Failed":
            raise GanflowError(
                f"TrainJob {self.name} failed ({job.why or 'no reason given'}){self._ends()}; its last lines: "
                f"{log.last_lines() or 'none'}"
            )

    def _begin(self) -> None:
        """Attach to the job of an earlier attempt, unless that ended without a model, or is on its way out."""
        self._heed()
        job = self.cluster.get(self.name)
        if job and job.end:
            _say(f"TrainJob {self.name} of an earlier attempt left no model; it makes room for another")
            self.cluster.delete(self.name)
            job = replace(job, leaving=True)
        if job and job.leaving:
            self._wait_until_gone(GONE_SECONDS)
            job = None
        if job is None:
            self.cluster.create(self.body)
            _say(f"TrainJob {self.name} is made, in {self.cluster.namespace}")
        else:
            _say(f"going on with TrainJob {self.name}, which an earlier attempt made")

    def _followed(self) -> Job:
        while True:
            job = self.cluster.get(self.name)
            if job is None or (job.leaving and job.end is None):
                raise GanflowError(
                    f"TrainJob {self.name} was deleted before its end; find out by whom, and try again: the training "
                    "goes on from its last checkpoint"
                )
            if job.end:
                return job
            self._pause(POLL_SECONDS)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._heed()
            time.sleep(WAKE_SECONDS)

    def _heed(self) -> None:
        if self.stop():
            raise Interrupted(f"stopped; TrainJob {self.name} was deleted, and the next attempt goes on")

    def _cancel(self) -> None:
        """Delete the job within the time that is left to this pod."""
        self.stop = lambda: False  # heeded
        grace = 0.8 * float(os.environ.get(GRACE, "30"))
        self.cluster.patience_seconds = grace / 2
        self.cluster.delete(self.name)
        _say(f"TrainJob {self.name} is deleted")
        self._wait_until_gone(grace / 2)

    def _wait_until_gone(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while self.cluster.get(self.name):
            if time.monotonic() > end:
                raise GanflowError(
                    f"TrainJob {self.name} is deleted and its pods are still there after {seconds:g} s; look at them "
                    f"with `kubectl get pods --selector jobset.sigs.k8s.io/jobset-name={self.name}`"
                )
            self._pause(min(POLL_SECONDS, seconds))

    def _ends(self) -> str:
        """How the nodes' containers ended that did not end well."""
        said = []
        for pod in self.cluster.nodes(self.name):
            for status in pod.status.container_statuses or []:
                ended = status.state.terminated or (status.last_state and status.last_state.terminated)
                if ended and ended.exit_code:
                    said.append(f"node {rank_of(pod)}: {ended.reason or 'Error'}, exit code {ended.exit_code}")
        return "".join(f"; {one}" for one in said)


def _send_once(store: Store, folder: Path, key: str, files: dict[str, str]) -> None:
    """A folder's key is its content's, so that what is there is right."""
    if is_whole(store, key):
        _say(f"{folder.name} is in {store.url}/{key} already")
        return
    send(store, folder, key, files)
    _say(f"{folder.name} is in {store.url}/{key}: {len(files)} files")


def _variable(name: str) -> str:
    if value := os.environ.get(name):
        return value
    cures = {
        CHECKPOINTS: "the nodes meet in that store; set it in the config map that resources.config_map names",
        TRAINJOB: "compile the pipeline for a profile with nodes of more than 1, which sets it",
    }
    raise ConfigError(f"{name} is not set; {cures[name]}")


def _owner() -> dict[str, str] | None:
    """The launcher's own pod, as the downward API names it."""
    name, uid = os.environ.get("POD_NAME"), os.environ.get("POD_UID")
    return {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid} if name and uid else None


def _say(what: str) -> None:
    print(f"launch: {what}", file=sys.stderr, flush=True)

"""The launcher as a process, in the environment of its pod, and a Kubernetes whose nodes are processes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from trainer_api import Job, State, trainer_api

from ganflow import trainjob
from ganflow.config import Train
from ganflow.resources import Profile, Resources

SETTINGS = Train(
    width=8, latent_dim=16, batch_size=32, total_images=3200, log_every_images=160, sample_every_images=3200,
    checkpoint_every_images=320, online_fid_images=64,
).json_text()  # fmt: skip
LAUNCH = "import sys; from ganflow import steps; steps.launch('prepared', 'reference', 'model', sys.argv[1])"
NODES = Profile(nodes=2, cpu="1", memory="2Gi")
IMAGE = "ganflow:test"
STARTED: list["subprocess.Popen[str]"] = []


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    for process in STARTED:
        with process:
            process.kill()
    STARTED.clear()


@pytest.fixture
def kubernetes(place: Path) -> Iterator[State]:
    with trainer_api(place / "kubeconfig") as state:
        state.environment = {
            "MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db", "GANFLOW_CHECKPOINTS": str(place / "store"),
        }  # fmt: skip
        yield state


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

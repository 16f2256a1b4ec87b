"""Run a pipeline on this machine with kfp.local: each task a process, or a container, of its own."""

import contextlib
import os
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from kfp import local

from ganflow.errors import ConfigError, GanflowError, Interrupted
from ganflow.pin import BEGINNING
from ganflow.resources import USER

LABEL = "ganflow.pipeline"
"""Of the containers: the process that started them."""
COLOUR = re.compile(r"\x1b\[\d+m")
OUTPUTS = {
    "prepare": "prepared", "reference": "reference", "train": "model", "evaluate": "evaluation", "best": "model",
    "register": "registration", "promote": "decision",
}  # fmt: skip
"""The output of each step, as its component names it."""
UNTRIED = {
    "subprocess": "the images, caching, the exit task, retries, secrets, volumes, time limits and resource limits",
    "docker": "caching, the exit task, retries, secrets, time limits and resource limits",
}
"""What a local run says nothing about."""


def run(pipeline: Any, given: dict[str, Any], root: Path, runner: Any) -> dict[str, Path]:
    """Run a pipeline with these parameters; returns where the output of each of its steps lies.

    What the tasks print goes to standard error. SIGTERM reaches the running task. Raises GanflowError when a task
    fails, and Interrupted when it was stopped.
    """
    local.init(runner, pipeline_root=str(root))
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr), _passed_on() as stopped:
        warnings.filterwarnings("ignore", "You may be attemping to run a task", RuntimeWarning)  # the name of the image
        try:
            pipeline(**given)
        except RuntimeError as error:
            task = COLOUR.sub("", str(error)).rpartition("Inner task failed: ")[2].strip("'.")
            if stopped:
                raise Interrupted(f"stopped in the task {task}; its last lines above say what it saved") from error
            raise GanflowError(f"the task {task} failed; its last lines above say why") from error
    folder = max(root.glob(f"{pipeline.name}-*"))
    tasks = pipeline.pipeline_spec.root.dag.tasks
    return {step: folder / step / name for step, name in OUTPUTS.items() if step in tasks}


def subprocess_runner() -> Any:
    """Each task a process of this environment."""
    return local.SubprocessRunner(use_venv=False)


def docker_runner(raw: str, root: Path, environment: dict[str, str]) -> Any:
    """Each task a container of its image, as bare as on a cluster: no root, and only `root` and /tmp can be written to.

    The network is the host's. Raw images that are a path are mounted there. Raises ConfigError unless
    MLFLOW_TRACKING_URI names a server: the small image has no store of its own.
    """
    from docker.types import Mount

    server = environment.get("MLFLOW_TRACKING_URI", "")
    if not server.startswith("http"):
        raise ConfigError(
            f"MLFLOW_TRACKING_URI is {server or 'not set'}, and containers need a server; start `mlflow server`, and "
            "set it to its address"
        )
    root.mkdir(parents=True, exist_ok=True)
    user, group = os.getuid(), os.getgid()
    if user == 0:
        user = group = USER
        os.chown(root, user, group)
    mounts = [] if raw.startswith(BEGINNING) else [Mount(raw, raw, type="bind", read_only=True)]
    return local.DockerRunner(
        network_mode="host",
        environment=environment,
        user=f"{user}:{group}",
        read_only=True,
        tmpfs={"/tmp": ""},
        mounts=mounts,
        working_dir=str(root),
        labels={LABEL: str(os.getpid())},
    )


@contextlib.contextmanager
def _passed_on() -> Iterator[list[int]]:
    """Hand SIGTERM on to the task that runs; yields the list of those that came."""
    came: list[int] = []

    def hand_on(number: int, frame: object) -> None:
        came.append(number)
        for process in _tasks(psutil.Process()):
            process.send_signal(number)
        for container in _containers():
            container.kill(number)

    before = signal.signal(signal.SIGTERM, hand_on)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)


def _containers() -> list[Any]:
    """The containers of this process's tasks."""
    import docker

    try:
        return list(docker.from_env().containers.list(filters={"label": f"{LABEL}={os.getpid()}"}))
    except docker.errors.DockerException:  # no engine, so no containers
        return []


def _tasks(process: Any) -> list[Any]:
    """The tasks' own processes; the shells around them must stay, since kfp waits for those."""
    found = []
    for child in process.children():
        found += _tasks(child) if child.name() in ("sh", "dash", "bash") else [child]
    return found

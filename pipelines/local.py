"""Run the training pipeline on this machine with kfp.local: each task a process, or a container, of its own."""

import contextlib
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from kfp import local

from ganflow.errors import GanflowError, Interrupted
from pipelines.training import build

COLOUR = re.compile(r"\x1b\[\d+m")
OUTPUTS = {
    "prepare": "prepared", "reference": "reference", "train": "model", "evaluate": "evaluation",
    "register": "registration", "promote": "decision",
}  # fmt: skip
"""The output of each step, as its component names it."""
UNTRIED = {
    "subprocess": "the images, caching, the exit task, retries, secrets, volumes, time limits and resource limits",
    "docker": "caching, the exit task, retries, secrets, time limits and resource limits",
}
"""What a local run says nothing about."""


def run(raw: str, sections: dict[str, str], root: Path, runner: Any) -> dict[str, Path]:
    """Run the pipeline on `raw` with these sections of the parameters; returns where each step's output lies.

    What the tasks print goes to standard error. SIGTERM reaches the running task. Raises GanflowError when a task
    fails, and Interrupted when it was stopped.
    """
    pipeline = build()
    local.init(runner, pipeline_root=str(root))
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr), _passed_on() as stopped:
        warnings.filterwarnings("ignore", "You may be attemping to run a task", RuntimeWarning)  # the name of the image
        try:
            pipeline(raw=raw, **sections)
        except RuntimeError as error:
            task = COLOUR.sub("", str(error)).rpartition("Inner task failed: ")[2].strip("'.")
            if stopped:
                raise Interrupted(f"stopped in the task {task}; its last lines above say what it saved") from error
            raise GanflowError(f"the task {task} failed; its last lines above say why") from error
    folder = max(root.glob(f"{pipeline.name}-*"))
    return {step: folder / step / name for step, name in OUTPUTS.items()}


def subprocess_runner() -> Any:
    """Each task a process of this environment."""
    return local.SubprocessRunner(use_venv=False)


def docker_runner(environment: dict[str, str]) -> Any:
    """Each task a container of its image, in the host's network, with these environment variables."""
    return local.DockerRunner(network_mode="host", environment=environment)


@contextlib.contextmanager
def _passed_on() -> Iterator[list[int]]:
    """Hand SIGTERM on to the task that runs; yields the list of those that came."""
    came: list[int] = []

    def hand_on(number: int, frame: object) -> None:
        came.append(number)
        for process in _tasks(psutil.Process()):
            process.send_signal(number)

    before = signal.signal(signal.SIGTERM, hand_on)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)


def _tasks(process: Any) -> list[Any]:
    """The tasks' own processes; the shells around them must stay, since kfp waits for those."""
    found = []
    for child in process.children():
        found += _tasks(child) if child.name() in ("sh", "dash", "bash") else [child]
    return found

"""A training on every GPU of a pod, or of several: one process for each, started and watched by torchrun."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ganflow.errors import Interrupted, TrainingError

PROCESSES = "GANFLOW_PROCESSES"
"""Environment variable: how many processes a training has, where it is not one for each GPU."""
NODES, RANK = "PET_NNODES", "PET_NODE_RANK"
"""Environment variables of torchrun, which Kubeflow Trainer sets in each node of a TrainJob, with PET_NPROC_PER_NODE,
PET_MASTER_ADDR and PET_MASTER_PORT."""


def processes() -> int:
    """How many processes a training in this pod has."""
    import torch

    return int(os.environ.get(PROCESSES, "0")) or max(1, torch.cuda.device_count())


def train(prepared: str, reference: str, out: str, section: str, count: int) -> None:
    """`ganflow train --resume` by `count` processes of this machine; SIGTERM reaches them all.

    In a node of a TrainJob they are processes of one training with those of the other nodes. `section` is the section
    `train` of params.yaml as JSON. Raises TrainingError when a process fails: torchrun ends the others then, and the
    next attempt goes on from the last checkpoint.
    """
    with tempfile.TemporaryDirectory() as folder:
        params = Path(folder) / "params.yaml"
        params.write_text(f'{{"train": {section}}}')  # JSON is YAML
        verb = ["ganflow", "train", prepared, out, "--reference", reference, "--resume", "--params", str(params)]
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(count)]
        launcher += [] if NODES in os.environ else ["--standalone"]
        # Where several processes share a node, torchrun gives each one thread; the bits depend on the number of
        # threads, and must not depend on which node a process is on.
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        process = subprocess.Popen([sys.executable, *launcher, "-m", *verb], env=environment)
        with _passed_on_to(process):
            code = process.wait()
    if code:
        raise TrainingError(f"one of {count} training processes here ended with {code}; the lines above say why")


def first_here() -> bool:
    """Whether this process is the first that torchrun started on its machine."""
    return os.environ.get("LOCAL_RANK") == "0"


@contextmanager
def all_stopped(told: Callable[[object], object]) -> Iterator[None]:
    """Where an Interrupted passes, wait for the leader, who has more to save; `told` is `World.told`.

    torchrun ends all processes after the first that ends in an error.
    """
    try:
        yield
    except Interrupted:
        told(None)
        raise


@contextmanager
def _passed_on_to(process: subprocess.Popen[bytes]) -> Iterator[None]:
    def hand_on(number: int, frame: object) -> None:
        process.send_signal(number)

    before = signal.signal(signal.SIGTERM, hand_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

"""A node of a TrainJob: its inputs from the store, its part of the training, and from the leading node the model.

A container that fails is started again by Kubernetes, on the same node or another; nothing that it had on its disk is
needed: checkpoints come back from the store by the leading process, which gives its state to all others.
"""

import os
import sys
import tempfile
from pathlib import Path

from ganflow.artifacts import Model
from ganflow.errors import ConfigError, TrainingError
from ganflow.handover import bring, is_whole, listing, send
from ganflow.objects import open_store
from ganflow.processes import RANK, train

CHECKPOINTS = "GANFLOW_CHECKPOINTS"
PER_NODE = "PET_NPROC_PER_NODE"


def train_node(prepared: str, reference: str, out: str, section: str) -> None:
    """Do this node's part; the first three are keys of folders in the store. A model that is there is not made again.

    Raises TrainingError when a process failed, or was stopped before the training's end: Kubernetes takes a node that
    ends without an error for done.
    """
    for name in (CHECKPOINTS, RANK, PER_NODE):
        if not os.environ.get(name):
            raise ConfigError(f"{name} is not set; `ganflow train-node` is for the nodes of a TrainJob, which set it")
    store = open_store(os.environ[CHECKPOINTS])
    if is_whole(store, out):
        print(f"train-node: the model is in {store.url}/{out} already", file=sys.stderr)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        bring(store, prepared, folder / "prepared")
        bring(store, reference, folder / "reference")
        model = Model(folder / "model")
        train(
            str(folder / "prepared"),
            str(folder / "reference"),
            str(model.path),
            section,
            int(os.environ[PER_NODE]),
        )
        if not model.card.exists():
            raise TrainingError("the training was stopped before its end; the next attempt goes on from there")
        if os.environ[RANK] == "0":
            send(store, model.path, out, listing(model.path))
            print(f"train-node: the model is in {store.url}/{out}", file=sys.stderr)

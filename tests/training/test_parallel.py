"""Two processes see what one sees, each its half; they talk by gloo on a CPU."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import SMALL, noise, weights

from ganflow.artifacts import Model
from ganflow.config import Train
from ganflow.errors import ConfigError
from ganflow.history import read_history
from ganflow.parallel import World
from ganflow.training.batches import Batches

SCRIPT = Path(__file__).parent / "training_process.py"


def torchrun(out: Path, processes: int, **changes: object) -> Model:
    """A training under torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [*command, str(SCRIPT), str(out), json.dumps(changes)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Model(out)


def served(processes: int, rank: int, **changes: object) -> list[torch.Tensor]:
    settings = Train.model_validate({**SMALL, **changes})
    sets = noise()
    batches = Batches(sets.train, sets.labels, settings, torch.device("cpu"), World(rank, processes))
    try:
        return [
            torch.cat([batch.index for batch in batches.take(images)])
            for images in range(0, settings.total_images, settings.images_per_step)
        ]
    finally:
        batches.close()


@pytest.mark.parametrize("processes", [2, 4, 8])
@pytest.mark.parametrize("changes", [{}, {"discriminator_steps": 2, "conditional": True}], ids=str)
def test_many_processes_see_the_same_samples_as_one(processes, changes):
    one = served(1, 0, **changes)
    for step, parts in enumerate(zip(*(served(processes, rank, **changes) for rank in range(processes)), strict=True)):
        assert sorted(torch.cat(parts).tolist()) == one[step].tolist()


def test_a_batch_holds_the_images_and_labels_of_its_places():
    sets, settings = noise(), Train.model_validate({**SMALL, "conditional": True})
    batches = Batches(sets.train, sets.labels, settings, torch.device("cpu"), World(1, 2))
    (batch,) = batches.take(96)
    batches.close()
    assert batch.index.tolist() == list(range(104, 112))
    pixels = batch.images.mul(127.5).add(127.5).round().to(torch.uint8).numpy()
    places = [int(np.flatnonzero((sets.train == image).all((1, 2, 3)))[0]) for image in pixels]
    assert batch.labels.tolist() == [sets.labels[place] for place in places]


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ConfigError, match=r"train\.batch_size is 16, which 3 processes cannot share"):
        World(0, 3).require_slices(16)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"generator": "mlp", "discriminator": "cnn"},
        {"generator": "mlp", "discriminator": "mlp", "loss": "relativistic", "r1_gamma": 1.0, "r2_gamma": 1.0},
        {"generator": "mlp", "discriminator": "cnn", "augment": ["translation"], "augment_target": 0.6},
    ],
    ids=str,
)
def test_two_processes_train_as_one_but_for_rounding(tmp_path, changes):
    """Networks that judge each image by itself: the mean gradient of two halves is that of the whole."""
    one, two = torchrun(tmp_path / "one", 1, **changes), torchrun(tmp_path / "two", 2, **changes)
    first, second = weights(one), weights(two)
    for key, value in first.items():
        assert (value - second[key]).abs().max() <= 0.05 * value.abs().max() + 1e-6, key
    for record, other in zip(read_history(one.history), read_history(two.history), strict=True):
        assert record == pytest.approx(other, rel=1e-3)


@pytest.mark.slow
def test_two_processes_keep_common_batch_statistics(tmp_path):
    """Each half has statistics of its own; the running ones, which the average has, are the mean of both."""
    model = torchrun(tmp_path / "two", 2)
    assert all(value.isfinite().all() for value in weights(model).values())
    assert [record["images"] for record in read_history(model.history)] == [80, 160, 240, 320]

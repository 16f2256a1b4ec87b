"""Small trainings, and the comparison of two of them."""

import shutil

import numpy as np
import torch
from safetensors.torch import load_file

from ganflow.artifacts import Model
from ganflow.config import Train
from ganflow.training import Sets, begin, conclude, train

DATA = {"resolution": 28, "channels": 1, "classes": ["even", "odd"], "name": "noise", "raw_md5": "0"}
SMALL = {"width": 4, "latent_dim": 8, "batch_size": 16, "total_images": 320, "log_every_images": 80,
         "sample_every_images": 160, "checkpoint_every_images": 160}  # fmt: skip


def noise(count: int = 100) -> Sets:
    """Random images in two classes."""
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8), np.arange(count) % 2
    return Sets(images, labels, images[:50], labels[:50])


def run(out, *, resume=False, concluded=True, stop=lambda: False, advance=lambda done, total: None,
        judge=None, sets=None, **changes):  # fmt: skip
    settings, model, sets = Train(**{**SMALL, **changes}), Model(out), sets or noise()
    state = begin(DATA, sets, settings, model, resume)
    train(state, sets, DATA, settings, model, judge=judge, stop=stop, advance=advance)
    if concluded:
        conclude(model)
    return model


def weights(model: Model) -> dict[str, torch.Tensor]:
    return load_file(model.checkpoints / "final.safetensors")


def assert_same(one: Model, other: Model) -> None:
    for name in ("generator.safetensors", "model.json", "history.jsonl", "history.csv"):
        assert (one.path / name).read_bytes() == (other.path / name).read_bytes(), name
    assert sorted(p.name for p in one.samples.iterdir()) == sorted(p.name for p in other.samples.iterdir())
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def without_outputs(model: Model) -> None:
    """What DVC does before it runs a step again."""
    for path in (model.generator, model.card, model.history, model.curves):
        path.unlink(missing_ok=True)
    shutil.rmtree(model.samples, ignore_errors=True)


class Script:
    """A judge whose scores are known beforehand, by the images seen."""

    name = "fid_online_script_4"

    def __init__(self, **scores: float) -> None:
        self.scores = {int(key.removeprefix("at_")): value for key, value in scores.items()}

    def __call__(self, state) -> dict[str, float]:
        return {self.name: self.scores[state.images]}


class StopAfter:
    """Says stop at the n-th question."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0

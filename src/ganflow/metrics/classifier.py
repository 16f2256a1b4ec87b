"""The domain classifier: a small CNN that learns the classes of the real images, and whose features measure them.

It knows the domain as Inception does not (grey 28x28 clothes), and measures 10,000 images in seconds on a CPU.
Features of a network trained on the domain, as Inception's for photographs: Heusel et al. 2017.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR

from ganflow.device import best_device, exact
from ganflow.errors import ArtifactError, DataError
from ganflow.images import AnyImages
from ganflow.randomness import Stream, derived_seed, permutation

FEATURES = 128
BATCH = 128
LEARNING_RATE = 3e-3
FINAL_MAP = 7
"""Blocks halve the image until its side is 7 or 8."""


class Classifier(nn.Module):
    """uint8 images (N, C, R, R) to 128 features, float32 (N, 128): halving 3x3 convolutions, one hidden layer."""

    NAME: ClassVar[str] = "classifier"
    RESIZE: ClassVar[str] = "none"
    MEMORY_FORMAT: ClassVar[torch.memory_format] = torch.contiguous_format

    def __init__(self, *, resolution: int, channels: int, classes: int) -> None:
        super().__init__()
        self.architecture = {"resolution": resolution, "channels": channels, "classes": classes}
        halvings = int(math.log2(resolution // FINAL_MAP))
        widths = [channels, *(min(32 << i, FEATURES) for i in range(halvings))]
        self.blocks = nn.Sequential(*(_block(*pair) for pair in pairwise(widths)))
        inputs = widths[-1] * (resolution >> halvings) ** 2
        self.penultimate = nn.Sequential(
            nn.Flatten(), nn.Linear(inputs, FEATURES, bias=False), nn.BatchNorm1d(FEATURES), nn.ReLU()
        )
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Features of uint8 images. Raises ArtifactError for images of another shape than it was fitted on."""
        expected = (self.architecture["channels"], *[self.architecture["resolution"]] * 2)
        if images.shape[1:] != expected:
            raise ArtifactError(
                f"the classifier measures images of shape {expected}, and these are {tuple(images.shape[1:])}; "
                "evaluate against a reference of the same data"
            )
        features: Tensor = self.penultimate(self.blocks(images.to(torch.float32) / 127.5 - 1))
        return features


def fit_classifier(
    images: AnyImages,
    labels: NDArray[np.int64],
    classes: int,
    epochs: int,
    seed: int,
    advance: Callable[[int, int], None],
) -> Classifier:
    """Fit to uint8 images (N, C, R, R), which may be memory-mapped, and int64 labels (N,) below `classes`.

    The same arguments on the same machine give the same bits, and torch's own generators are left as they were.
    `advance` is called with the images seen and their total. Raises DataError for fewer than two images,
    labels of another count than the images, and labels outside of the classes.
    """
    _check(images, labels, classes)
    network = _initial(images.shape[2], images.shape[1], classes, seed)
    steps = math.ceil(len(images) / BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE)
    schedule = OneCycleLR(optimizer, LEARNING_RATE, total_steps=epochs * steps)
    seen = 0
    for rows in _batches(len(images), steps, epochs, seed):
        _step(network, optimizer, torch.from_numpy(images[rows]), torch.from_numpy(labels[rows]))
        schedule.step()
        advance(seen := seen + len(rows), epochs * len(images))
    return network.eval()


def _batches(n: int, steps: int, epochs: int, seed: int) -> Iterator[NDArray[np.int64]]:
    for epoch in range(epochs):
        # Equal parts: batch normalisation cannot take a last batch of one image.
        for rows in permutation(seed, Stream.EXTRACTOR, n, epoch).tensor_split(steps):
            yield np.sort(rows.numpy())  # in file order: kind to a memory-mapped file


def _step(network: Classifier, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> None:
    device = network.head.weight.device
    optimizer.zero_grad()
    with exact():
        loss = F.cross_entropy(network.head(network(images.to(device))), labels.to(device))
        loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def _initial(resolution: int, channels: int, classes: int, seed: int) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived_seed(seed, Stream.EXTRACTOR))
        network = Classifier(resolution=resolution, channels=channels, classes=classes)
    return network.to(best_device())


def _check(images: AnyImages, labels: NDArray[np.int64], classes: int) -> None:
    if len(images) != len(labels):
        raise DataError(f"{len(images)} images have {len(labels)} labels; run `ganflow prepare` again")
    if len(images) < 2:
        raise DataError(f"a classifier learns from 2 images or more, and there are {len(images)}; give more images")
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"the labels run from {labels.min()} to {labels.max()} for {classes} classes; run `ganflow prepare` again"
        )


def _block(inputs: int, outputs: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

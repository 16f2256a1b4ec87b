"""Which real images make a batch: a function of (seed, images seen), every image once an epoch."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganflow import randomness
from ganflow.config import Train
from ganflow.images import AnyImages, Labels
from ganflow.parallel import World


@dataclass(frozen=True)
class Batch:
    """Real images of one update, and their places in the endless shuffled sequence."""

    images: Tensor
    """float32 (n, C, R, R) in [-1, 1]."""
    labels: Tensor | None
    """int64 (n,), where the players draw by class."""
    index: Tensor
    """int64 (n,): latents and augmentations are functions of it."""


Indices = NDArray[np.int64]
Raw = tuple[Tensor, Tensor | None, Tensor]
"""uint8 images, labels, and index."""


def order(n: int, seed: int, first: int, count: int) -> Indices:
    """Indices into n images of samples first to first + count: sample i is image i mod n of epoch i div n."""
    position = np.arange(first, first + count)
    indices = np.empty(count, dtype=np.int64)
    for epoch in range(first // n, (first + count - 1) // n + 1):
        here = position // n == epoch
        indices[here] = _permutation(n, seed, epoch)[position[here] % n]
    return indices


@lru_cache(maxsize=2)
def _permutation(n: int, seed: int, epoch: int) -> Indices:
    return randomness.permutation(seed, randomness.Stream.ORDER, n, epoch).numpy()


class Batches:
    """Serves each step its batches. The images stay on the device when they fit, else they are fetched ahead."""

    def __init__(
        self, images: AnyImages, labels: Labels | None, settings: Train, device: torch.device, world: World
    ) -> None:
        self.images, self.labels = images, labels if settings.conditional else None
        self.settings, self.device, self.world = settings, device, world
        self.resident = self._resident()
        self.thread = ThreadPoolExecutor(1)
        self.ahead: tuple[int, Future[list[Raw]]] | None = None

    def take(self, images: int) -> list[Batch]:
        """This process's slices of the step's batches, after so many images; the next step's are begun."""
        raw = self.ahead[1].result() if self.ahead and self.ahead[0] == images else self._fetch(images)
        following = images + self.settings.images_per_step
        if following < self.settings.total_images:
            self.ahead = (following, self.thread.submit(self._fetch, following))
        return [self._place(*part) for part in raw]

    def close(self) -> None:
        """End the thread."""
        self.thread.shutdown()

    def _fetch(self, images: int) -> list[Raw]:
        """uint8 images, or their indices where the set is on the device."""
        size = self.settings.batch_size // self.world.size
        starts = [
            images + batch * self.settings.batch_size + self.world.rank * size
            for batch in range(self.settings.batches_per_step)
        ]
        return [self._read(start, size) for start in starts]

    def _read(self, first: int, count: int) -> Raw:
        chosen = order(len(self.images), self.settings.seed, first, count)
        pixels = torch.from_numpy(chosen if self.resident is not None else self.images[chosen])
        labels = None if self.labels is None else torch.from_numpy(self.labels[chosen])
        index = torch.arange(first, first + count)
        if self.device.type == "cuda":  # pinned memory is copied while the device computes
            pixels, index = pixels.pin_memory(), index.pin_memory()
            labels = None if labels is None else labels.pin_memory()
        return pixels, labels, index

    def _place(self, pixels: Tensor, labels: Tensor | None, index: Tensor) -> Batch:
        pixels, index = (tensor.to(self.device, non_blocking=True) for tensor in (pixels, index))
        if self.resident is not None:
            pixels = self.resident[pixels]
        labels = None if labels is None else labels.to(self.device, non_blocking=True)
        return Batch(to_float(pixels), labels, index)

    def _resident(self) -> Tensor | None:
        """The whole set on the device, when it takes less than half of the device's free memory."""
        if self.device.type != "cuda" or self.images.nbytes > torch.cuda.mem_get_info()[0] // 2:
            return None
        return torch.from_numpy(np.ascontiguousarray(self.images)).to(self.device)


def to_float(pixels: Tensor) -> Tensor:
    """uint8 (n, C, R, R) to float32 in [-1, 1], channels last."""
    return pixels.float().sub_(127.5).div_(127.5).contiguous(memory_format=torch.channels_last)

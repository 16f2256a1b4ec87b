"""Which real images make a batch: a function of (seed, images seen), every image once an epoch."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ganflow import randomness
from ganflow.images import Images


def batch(images: Images, seed: int, first: int, count: int) -> Tensor:
    """Samples `first` to `first + count` of the endless shuffled sequence: uint8 (count, C, R, R)."""
    return torch.from_numpy(images[order(len(images), seed, first, count)])


def order(n: int, seed: int, first: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Indices into n images for those samples: sample i is image i mod n of epoch i div n's permutation."""
    position = np.arange(first, first + count)
    indices = np.empty(count, dtype=np.int64)
    for epoch in range(first // n, (first + count - 1) // n + 1):
        here = position // n == epoch
        indices[here] = _permutation(n, seed, epoch)[position[here] % n]
    return indices


@lru_cache(maxsize=2)
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return randomness.permutation(seed, randomness.Stream.ORDER, n, epoch).numpy()


def to_float(images: Tensor, device: torch.device) -> Tensor:
    """uint8 to float32 in [-1, 1] on `device`."""
    return images.to(device).float().sub_(127.5).div_(127.5)

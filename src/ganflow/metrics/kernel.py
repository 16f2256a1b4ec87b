"""The kernel distance: KID, unbiased at any number of images.

Bińkowski et al. 2018, "Demystifying MMD GANs": the squared maximum mean discrepancy with the kernel (x·y / d + 1)³.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganflow.device import best_device
from ganflow.metrics.moments import Features
from ganflow.randomness import Stream, permutation

BLOCK = 1000


class Kid(NamedTuple):
    """The KID and its standard error; NaN where one block alone cannot tell."""

    value: float
    standard_error: float


def kernel_distance(generated: Features, real: Features, seed: int, block: int = BLOCK) -> Kid:
    """KID of features (N, d) against (M, d): mean of the estimates from disjoint blocks of `block` images of each.

    The blocks are drawn by `seed`; being disjoint they are independent given the real images, and their spread over
    the root of their number is the standard error. No matrix exceeds (block, block). Needs 2 images of each.
    """
    size = min(block, len(generated), len(real))
    count = min(len(generated), len(real)) // size
    orders = [
        permutation(seed, Stream.EVALUATION, len(side), epoch).numpy() for epoch, side in enumerate((generated, real))
    ]
    values = np.empty(count)
    for i in range(count):
        rows = slice(i * size, (i + 1) * size)
        values[i] = polynomial_mmd(generated[orders[0][rows]], real[orders[1][rows]])
    error = float(values.std(ddof=1) / np.sqrt(count)) if count > 1 else float("nan")
    return Kid(float(values.mean()), error)


def polynomial_mmd(x: Features, y: Features) -> float:
    """Unbiased squared MMD of features (n, d) and (m, d), in float64; n and m are 2 or more."""
    one, other = (torch.from_numpy(np.asarray(side, dtype=np.float64)).to(best_device()) for side in (x, y))
    return _within(one) + _within(other) - 2 * float(_kernel(one, other).mean())


def _within(x: Tensor) -> float:
    kernel = _kernel(x, x)
    return float(kernel.sum() - kernel.diagonal().sum()) / (len(x) * (len(x) - 1))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    products: Tensor = x @ y.T / x.shape[1] + 1
    return products * products * products  # three times as fast as a power

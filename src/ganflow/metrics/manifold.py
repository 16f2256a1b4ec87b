"""Fidelity and variety apart: precision, recall, density and coverage, from distances to nearest neighbours.

Kynkäänniemi et al. 2019, "Improved precision and recall metric for assessing generative models" (k = 3), and
Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models" (k = 5). Pairwise distances come in
tiles of ROWS x COLUMNS, so that memory does not grow with the square of the images.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganflow.device import best_device
from ganflow.metrics.moments import Features

ROWS, COLUMNS = 2048, 4096
K_PRECISION, K_DENSITY = 3, 5
ROUNDING = 64 * torch.finfo(torch.float32).eps
"""A squared distance below this part of the two squared norms is the rounding error of zero."""
Float32 = NDArray[np.float32]


class Manifold(NamedTuple):
    """Four numbers, of which all are 1 (density about 1) when the two distributions are one."""

    precision: float
    """Part of the generated images that lie within the real images' neighbourhoods."""
    recall: float
    """Part of the real images that lie within the generated images' neighbourhoods."""
    density: float
    """Real neighbourhoods that a generated image lies in, over k."""
    coverage: float
    """Part of the real images whose neighbourhood holds a generated image."""


class Neighbours(NamedTuple):
    """Of each query: distance (n,) float32 to its nearest neighbour, and its row (n,) int64."""

    distances: Float32
    rows: NDArray[np.int64]


def radii(features: Features) -> Float32:
    """Distance from each row (N, d) to its k-th nearest other row, k = 1 to K_DENSITY: float32 (N, K_DENSITY).

    Where there are fewer others than k, the distance to the farthest of them; of one row, zeros.
    """
    data, mean = _placed(features), _mean(features)
    k = min(K_DENSITY + 1, len(data))
    found = np.empty((len(data), k), np.float32)
    for first in range(0, len(data), ROWS):
        best: Tensor | None = None
        for _, tile in _tiles(data[first : first + ROWS], data, mean):
            near = tile.topk(min(k, tile.shape[1]), largest=False).values
            best = near if best is None else torch.cat([best, near], 1)
            best = best.topk(min(k, best.shape[1]), largest=False).values
        assert best is not None
        found[first : first + ROWS] = best.sqrt().cpu().numpy()
    others = found[:, 1:] if k > 1 else found  # the nearest of all is the row itself
    return np.pad(others, ((0, 0), (0, K_DENSITY - others.shape[1])), mode="edge")


def manifold(generated: Features, real: Features, real_radii: Float32) -> Manifold:
    """Precision, recall, density and coverage of features (N, d) against (M, d), whose `radii` are (M, K_DENSITY)."""
    x, y, mean = _placed(generated), _placed(real), _mean(real)
    device = x.device
    own = torch.from_numpy(radii(generated)[:, K_PRECISION - 1]).to(device).square()
    theirs = torch.from_numpy(real_radii).to(device).square()
    precise, recalled, covered = (torch.zeros(len(side), dtype=torch.bool, device=device) for side in (x, y, y))
    inside = 0
    for first in range(0, len(x), ROWS):
        rows = slice(first, first + ROWS)
        for columns, tile in _tiles(x[rows], y, mean):
            near = theirs[columns]
            precise[rows] |= (tile <= near[:, K_PRECISION - 1]).any(1)
            recalled[columns] |= (tile <= own[rows, None]).any(0)
            within = tile <= near[:, K_DENSITY - 1]
            inside += int(within.sum())
            covered[columns] |= within.any(0)
    parts = (float(part.double().mean()) for part in (precise, recalled, covered))
    precision, recall, coverage = parts
    return Manifold(precision, recall, inside / (K_DENSITY * len(x)), coverage)


def nearest(queries: Features, features: Features) -> Neighbours:
    """The nearest of the rows (M, d) to each query (n, d); of several equally near, the first."""
    x, y, mean = _placed(queries), _placed(features), _mean(features)
    distances, rows = np.empty(len(x), np.float32), np.empty(len(x), np.int64)
    for first in range(0, len(x), ROWS):
        best = torch.full((len(x[first : first + ROWS]),), torch.inf, device=x.device)
        place = torch.zeros_like(best, dtype=torch.int64)
        for columns, tile in _tiles(x[first : first + ROWS], y, mean):
            near, at = tile.min(1)
            place = torch.where(near < best, at + columns.start, place)
            best = torch.minimum(best, near)
        distances[first : first + ROWS], rows[first : first + ROWS] = best.sqrt().cpu().numpy(), place.cpu().numpy()
    return Neighbours(distances, rows)


def _tiles(x: Tensor, y: Tensor, mean: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared distances of all the rows of x to COLUMNS rows of y at a time.

    `mean` is taken from both: small norms keep the digits of small distances.
    """
    x = x - mean
    norms = x.square().sum(1, keepdim=True)
    for first in range(0, len(y), COLUMNS):
        columns = y[first : first + COLUMNS] - mean
        sums = norms + columns.square().sum(1)
        squared = torch.addmm(sums, x, columns.T, alpha=-2)
        yield slice(first, first + len(columns)), squared.masked_fill_(squared <= sums.mul_(ROUNDING), 0)


def _mean(features: Features) -> Tensor:
    return torch.from_numpy(features.mean(axis=0, dtype=np.float64).astype(np.float32)).to(best_device())


def _placed(features: Features) -> Tensor:
    """float32 on the device; on the CPU float32 features are not copied."""
    return torch.from_numpy(np.ascontiguousarray(features, np.float32)).to(best_device())

"""Mean and covariance of features that come in pieces: the bits depend on the images' numbers, not on the pieces.

Features are cut into blocks of BLOCK images by their index. Each block's sums are taken around its own mean, in
float64 (E[xx'] - E[x]E[x]' would lose the digits of what lies far from zero), and two neighbouring blocks of one size
become one of twice the size: Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance". The tree of
merges is fixed by the indices, so any batches and any number of processes give the same bits.
"""

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ganflow.errors import ArtifactError

BLOCK = 2048
Float64 = NDArray[np.float64]
Features: TypeAlias = NDArray[np.float32] | Float64


class Node(NamedTuple):
    """Of `n` images: the mean (d,) and the sum of squared deviations from it (d, d), float64."""

    n: int
    mean: Float64
    scatter: Float64


class Moments:
    """Sums of the blocks seen so far; log2 of their number is kept at once, whatever the number of images."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[int, int], Node] = {}
        """By level and place: node (l, i) holds the blocks i * 2**l to (i + 1) * 2**l - 1."""

    def add(self, block: int, features: Features) -> None:
        """Add the features (n, d) of the images from `block` * BLOCK on; n is BLOCK, less only in the last block.

        Raises ArtifactError for features that are not finite.
        """
        require_finite(features)
        shift = features[0].astype(np.float64)
        shifted = features - shift
        mean = shifted.mean(axis=0)
        shifted -= mean
        self._place(0, block, Node(len(features), shift + mean, shifted.T @ shifted))

    def merge(self, other: "Moments") -> None:
        """Add what another process saw of the same images; no block may be in both."""
        for (level, place), node in sorted(other._nodes.items()):
            self._place(level, place, node)

    def result(self) -> tuple[Float64, Float64]:
        """Mean (d,) and unbiased covariance (d, d), float64. Raises ArtifactError for fewer than two images."""
        ends = sorted(self._nodes.items(), key=lambda item: item[0][1] << item[0][0], reverse=True)
        total = Node(0, np.zeros(()), np.zeros(()))
        for _, node in ends:
            total = _joined(node, total) if total.n else node
        if total.n < 2:
            raise ArtifactError(f"a covariance needs 2 images or more, and there are {total.n}; give more images")
        return total.mean, total.scatter / (total.n - 1)

    def _place(self, level: int, place: int, node: Node) -> None:
        while (other := self._nodes.pop((level, place ^ 1), None)) is not None:
            node = _joined(other, node) if place & 1 else _joined(node, other)
            level, place = level + 1, place >> 1
        self._nodes[level, place] = node


def moments(features: Features) -> tuple[Float64, Float64]:
    """Mean (d,) and unbiased covariance (d, d), float64, of float32 or float64 features (N, d).

    Raises ArtifactError for fewer than two rows, and for features that are not finite.
    """
    sums = Moments()
    for block, first in enumerate(range(0, len(features), BLOCK)):
        sums.add(block, features[first : first + BLOCK])
    return sums.result()


def require_finite(*arrays: Features) -> None:
    """Raise ArtifactError for values that are not finite."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise ArtifactError(
            "the features or their statistics hold values that are not finite; check that the images and the "
            "extractor's weights are whole"
        )


def _joined(one: Node, other: Node) -> Node:
    n = one.n + other.n
    step = other.mean - one.mean
    scatter = one.scatter + other.scatter + np.outer(step, step) * (one.n * other.n / n)
    return Node(n, one.mean + step * (other.n / n), scatter)

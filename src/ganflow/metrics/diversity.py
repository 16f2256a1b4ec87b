"""How diverse a few hundred images are, without a network: cheap enough for every record of a training.

The effective rank counts directions and knows no scale; the nearest pairs know the scale and count no directions.
A generator that forgets what it could draw loses on one or the other. Both are read against the real images' own.
"""

import math

import numpy as np
from numpy.typing import NDArray

from ganflow.metrics.moments import Features, Float64, moments

SMALLEST = 7
"""Images are averaged down until their side is 7 or 8."""


def pooled_pixels(images: NDArray[np.uint8]) -> Float64:
    """Means of equal squares of uint8 images (N, C, R, R), R being 28 or a power of two from 8: float64 (N, C k k).

    k is 7 or 8. Distances between these are distances between images that are seen from afar.
    """
    n, channels, side, _ = images.shape
    square = 1 << int(math.log2(side // SMALLEST))
    k = side // square
    means: Float64 = images.reshape(n, channels, k, square, k, square).mean(axis=(3, 5), dtype=np.float64)
    return means.reshape(n, -1)


def effective_rank(features: Features) -> float:
    """exp of the entropy of the covariance's eigenvalues, as shares of their sum (Roy and Vetterli 2007).

    Features (N, d) that vary alike along r orthogonal directions, and not else, have r; those that do not vary have 0.
    Raises ArtifactError for fewer than two rows, and for features that are not finite.
    """
    values = np.linalg.eigvalsh(moments(features)[1]).clip(min=0)
    if values.sum() == 0:
        return 0.0
    shares = values[values > 0] / values.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


def nearest_pair(features: Features) -> float:
    """The lower quartile of the distances from each row of features (N, d) to its nearest other.

    A quantile, since a mean hides a collapse of half of the images behind the other half; the quartile, since it
    falls as soon as a third of the images are copies of a few, and does not mind some twins among the real ones.
    """
    centred = features - features.mean(axis=0, dtype=np.float64)
    squares = np.einsum("nd,nd->n", centred, centred)
    distances = squares[:, None] + squares - 2 * centred @ centred.T
    np.fill_diagonal(distances, np.inf)
    return float(np.quantile(np.sqrt(distances.min(axis=1).clip(min=0)), 0.25))


def class_distance(labels: NDArray[np.int64], frequencies: Float64) -> float:
    """Total variation between the classes drawn, int64 (N,), and the real frequencies (classes,): 0 alike, 1 disjoint.

    It is the share of the images that would have to be of another class. By chance alone it is about
    0.4 sqrt(classes / N): 0.03 for 2,000 images of 10 classes.
    """
    drawn = np.bincount(labels, minlength=len(frequencies)) / len(labels)
    return float(np.abs(drawn - frequencies).sum() / 2)

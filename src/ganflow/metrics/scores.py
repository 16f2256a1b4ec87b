"""Every number of an evaluation, from the features that one pass over the images gave."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ganflow.metrics.extractors import Extractor
from ganflow.metrics.extrapolate import infinite_fid
from ganflow.metrics.frechet import distance_to, influence, standard_error
from ganflow.metrics.inception_score import inception_score
from ganflow.metrics.kernel import kernel_distance
from ganflow.metrics.manifold import Float32, Neighbours, manifold, nearest, radii
from ganflow.metrics.moments import Float64, moments
from ganflow.protocol import score_name

FEWEST_TO_EXTRAPOLATE = 6


class RealStatistics(NamedTuple):
    """All that is asked of the real images."""

    mu: Float64
    sigma: Float64
    features: Float32
    radii: Float32
    """As `manifold.radii` gives them."""
    bank: Float32
    """Features (B, d) of the images among which nearest neighbours are sought: training ones, or the real ones."""
    bank_distances: Float32
    """From each real image to its nearest in the bank, other than itself."""


class Measured(NamedTuple):
    """What `measure` finds."""

    scores: dict[str, float]
    """By name, protocol included; `<name>_se` is a standard error."""
    influence: Float64
    """Of each generated image on the FID."""
    neighbours: Neighbours
    """Each generated image's nearest in the bank."""
    warnings: list[str]


def real_statistics(features: Float32, train: Float32 | None = None) -> RealStatistics:
    """Statistics of the real images' features (N, d), and of the training images' (B, d) if they are given.

    Raises ArtifactError for fewer than two images, and for features that are not finite.
    """
    mu, sigma = moments(features)
    near = radii(features)
    if train is None:
        return RealStatistics(mu, sigma, features, near, features, near[:, 0])
    return RealStatistics(mu, sigma, features, near, train, nearest(features, train).distances)


def measure(extractor: Extractor, features: Float32, real: RealStatistics, seed: int) -> Measured:
    """Score generated features (N, d) against the real ones; `seed` draws the KID's blocks and the FID's parts.

    Raises ArtifactError for fewer than two images, and for features that are not finite or of another length.
    """
    mu, sigma = moments(features)
    distance = distance_to(real.mu, real.sigma)
    values = {"fid": distance(mu, sigma)}
    effects = influence(features, mu, sigma, real.mu, real.sigma)
    values["fid_se"] = standard_error(effects)
    if len(features) >= FEWEST_TO_EXTRAPOLATE:
        values["fid_infinity"] = infinite_fid(features, distance, seed)
    values["kid"], values["kid_se"] = kernel_distance(features, real.features, seed)
    values |= manifold(features, real.features, real.radii)._asdict()
    neighbours = nearest(features, real.bank)
    values["nearest_distance"] = float(np.median(neighbours.distances))
    values["memorisation"] = nearer(neighbours.distances, real.bank_distances)
    probabilities = extractor.probabilities(features)
    if probabilities is not None:
        values["inception_score"], values["inception_score_se"] = inception_score(probabilities)
    named = {_name(key, extractor.name, len(features)): value for key, value in values.items() if math.isfinite(value)}
    return Measured(named, effects, neighbours, sample_warnings(len(features), real))


def nearer(distances: NDArray[np.float32], baseline: NDArray[np.float32]) -> float:
    """Probability that a draw of `distances` (n,) is below one of `baseline` (m,), a tie counting half.

    Of distances to the nearest training image, generated against unseen real ones: near 1/2 for a good model, near 1
    for one that copies. The statistic of Meehan et al. 2020, "A non-parametric test to detect data-copying".
    """
    ordered = np.sort(baseline)
    below = np.searchsorted(ordered, distances, side="left")
    not_above = np.searchsorted(ordered, distances, side="right")
    return float(1 - (below + not_above).mean() / (2 * len(ordered)))


def sample_warnings(count: int, real: RealStatistics) -> list[str]:
    """What a reader of the scores must know: samples below the number of dimensions."""
    dimensions = len(real.mu)
    sides = (("generated", count), ("real", len(real.features)))
    return [
        f"fewer samples than dimensions: {n:,} {side} images and {dimensions:,} features make a singular covariance; "
        "the FID is far above that of more images, and its standard error is not reliable"
        for side, n in sides
        if n <= dimensions
    ]


def _name(key: str, extractor: str, count: int) -> str:
    metric = key.removesuffix("_se")
    return score_name(extractor, count, metric) + key[len(metric) :]

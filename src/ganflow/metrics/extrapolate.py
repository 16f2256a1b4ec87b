"""The FID at infinitely many generated images.

The FID of N images exceeds that of the distribution by about c / N. Chong & Forsyth 2020, "Effectively unbiased FID and
Inception Score and where to find them", draw a line through FIDs of several N over 1/N and read it at zero. Here the N
are the whole, the halves and the thirds: disjoint parts, drawn by a seed, so that every image counts once at each N
and the linear noise of the whole, which all of them share, does not tilt the line.
"""

from collections.abc import Callable

import numpy as np

from ganflow.metrics.moments import Features, Float64, moments
from ganflow.randomness import Stream, permutation

PARTS = (1, 2, 3)


def infinite_fid(features: Features, distance: Callable[[Float64, Float64], float], seed: int) -> float:
    """FID extrapolated to infinitely many generated images, from features (N, d), N of 6 or more.

    `distance` is `distance_to` the real moments. The result may be negative where the two distributions are one. Its
    standard error is that of the FID to first order. The real images count as given. Below about 3 d images the bias
    is no line in 1/N, and this is not to be trusted.
    """
    order = permutation(seed, Stream.EVALUATION, len(features), epoch=2).numpy()
    means = [
        np.mean([distance(*moments(features[np.sort(rows)])) for rows in np.array_split(order, parts)])
        for parts in PARTS
    ]
    inverse = np.array(PARTS) / len(features)
    _, intercept = np.polyfit(inverse, means, 1)
    return float(intercept)

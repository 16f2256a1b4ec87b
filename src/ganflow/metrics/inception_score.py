"""The Inception Score, of any extractor that knows classes."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ganflow.metrics.moments import Float64

SPLITS = 10


class InceptionScore(NamedTuple):
    """The mean over the parts, and its standard error."""

    value: float
    standard_error: float


def inception_score(probabilities: NDArray[np.float32] | Float64, splits: int = SPLITS) -> InceptionScore:
    """exp of the mean KL(p(y|x) || p(y)) of class probabilities (N, k), averaged over `splits` parts in their order.

    Salimans et al. 2016, "Improved techniques for training GANs". Fewer images than parts are one part a image.
    """
    parts = min(splits, len(probabilities))
    values = [_score(part.astype(np.float64)) for part in np.array_split(probabilities, parts)]
    error = float(np.std(values, ddof=1) / np.sqrt(parts)) if parts > 1 else float("nan")
    return InceptionScore(float(np.mean(values)), error)


def _score(p: Float64) -> float:
    marginal = p.mean(axis=0)
    ratio = np.divide(p, marginal, out=np.ones_like(p), where=p > 0)
    return float(np.exp((p * np.log(ratio)).sum(axis=1).mean()))

"""The Fréchet distance between two Gaussians fitted to features, and how sure it is.

Heusel et al. 2017, "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", define
the FID as |mu1 - mu2|² + tr(S1 + S2 - 2 (S1 S2)^½) of the features' means and covariances. Everything here is
float64: at an FID of 2, float32 leaves no correct digit.
"""

import numpy as np
from numpy.typing import NDArray

from ganflow.errors import ArtifactError

CHUNK = 4096
Float64 = NDArray[np.float64]
Features = NDArray[np.float32] | Float64


def moments(features: Features) -> tuple[Float64, Float64]:
    """Mean (d,) and unbiased covariance (d, d), float64, of float32 or float64 features (N, d).

    Raises ArtifactError for fewer than two rows, and for features that are not finite.
    """
    n, d = features.shape
    if n < 2:
        raise ArtifactError(f"a covariance needs 2 images or more, and there are {n}; give more images")
    _require_finite(features)
    mu: Float64 = features.mean(axis=0, dtype=np.float64)
    # Sums of deviations from the mean keep the digits that E[xx'] - E[x]E[x]' loses.
    sigma = np.zeros((d, d))
    for first in range(0, n, CHUNK):
        centred = features[first : first + CHUNK] - mu
        sigma += centred.T @ centred
    return mu, sigma / (n - 1)


def frechet_distance(mu1: Float64, sigma1: Float64, mu2: Float64, sigma2: Float64) -> float:
    """The FID (Heusel et al. 2017) of means (d,) and covariances (d, d), float64; singular ones too.

    With S1 = LLᵀ, the trace of (S1 S2)^½ is the sum of the square roots of the eigenvalues of LᵀS2L, a symmetric
    matrix. Raises ArtifactError for statistics of unlike length, or that are not finite.
    """
    _require_alike(mu1, mu2)
    _require_finite(mu1, sigma1, mu2, sigma2)
    factor = _factor(sigma1)
    roots = np.sqrt(np.linalg.eigvalsh(factor.T @ sigma2 @ factor).clip(min=0))
    difference = mu1 - mu2
    distance = difference @ difference + np.trace(sigma1) + np.trace(sigma2) - 2 * roots.sum()
    return max(float(distance), 0.0)


def influence(features: Features, mu_g: Float64, sigma_g: Float64, mu_r: Float64, sigma_r: Float64) -> Float64:
    """Each generated image's influence on the FID: float64 (N,), mean zero up to 1/N.

    The influence function of the FID (Heusel et al. 2017) at the generated distribution, for features (N, d) with
    moments mu_g (d,), sigma_g (d, d), against the real ones: with the optimal transport map T from N(0, sigma_g)
    to N(0, sigma_r), it is 2 (mu_g - mu_r)·c + cᵀ(I - T)c - tr((I - T) sigma_g) where c = x - mu_g.
    Raises ArtifactError for statistics of unlike length, or that are not finite.
    """
    _require_alike(mu_g, mu_r)
    _require_finite(features, mu_g, sigma_g, mu_r, sigma_r)
    excess = np.eye(len(mu_g)) - _transport(sigma_g, sigma_r)
    constant = np.sum(excess * sigma_g)
    values = np.empty(len(features))
    for first in range(0, len(features), CHUNK):
        centred = features[first : first + CHUNK] - mu_g
        quadratic = np.einsum("nd,nd->n", centred @ excess, centred)
        values[first : first + CHUNK] = 2 * centred @ (mu_g - mu_r) + quadratic - constant
    return values


def standard_error(values: Float64) -> float:
    """Standard error of the FID from the influences (N,) of the generated images: sqrt(Var / N).

    The real statistics count as given. Of two models on common latents, the difference of their influences gives
    the standard error of the difference of their FIDs.
    """
    return float(np.sqrt(values.var(ddof=1) / len(values)))


def _factor(sigma: Float64) -> Float64:
    """L (d, d) with L Lᵀ = sigma."""
    try:
        return np.asarray(np.linalg.cholesky(sigma), dtype=np.float64)
    except np.linalg.LinAlgError:  # fewer images than features, or a feature that never varies
        values, vectors = np.linalg.eigh(sigma)
        return np.asarray(vectors * np.sqrt(values.clip(min=0)), dtype=np.float64)


def _transport(sigma_g: Float64, sigma_r: Float64) -> Float64:
    """S_g^-½ (S_g^½ S_r S_g^½)^½ S_g^-½, zero where sigma_g has no variance."""
    values, vectors = np.linalg.eigh(sigma_g)
    present = values > len(values) * np.finfo(np.float64).eps * values[-1]
    root = np.sqrt(np.where(present, values, 0))
    inverse = np.divide(1, root, out=np.zeros_like(root), where=present)
    inner_values, inner_vectors = np.linalg.eigh((vectors * root).T @ sigma_r @ (vectors * root))
    outer = (vectors * inverse) @ inner_vectors
    transport: Float64 = (outer * np.sqrt(inner_values.clip(min=0))) @ outer.T
    return transport


def _require_alike(mu1: Float64, mu2: Float64) -> None:
    if mu1.shape != mu2.shape:
        raise ArtifactError(
            f"the statistics have {len(mu1)} and {len(mu2)} features; measure both with the same extractor"
        )


def _require_finite(*arrays: Features) -> None:
    if not all(np.isfinite(array).all() for array in arrays):
        raise ArtifactError(
            "the features or their statistics hold values that are not finite; check that the images and the "
            "extractor's weights are whole"
        )

"""The Fréchet distance between two Gaussians fitted to features, and how sure it is.

Heusel et al. 2017, "GANs trained by a two time-scale update rule converge to a local Nash equilibrium", define
the FID as |mu1 - mu2|² + tr(S1 + S2 - 2 (S1 S2)^½) of the features' means and covariances. Everything here is
float64: at an FID of 2, float32 leaves no correct digit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import torch

from ganflow.errors import ArtifactError
from ganflow.metrics.moments import Features, Float64, require_finite

CHUNK = 4096
PANEL = 256


@dataclass(frozen=True)
class Difference:
    """How much a second model's FID exceeds a first one's, on common latents."""

    value: float
    standard_error: float
    low: float
    """Lower end of the two-sided confidence interval."""
    high: float


def frechet_distance(mu1: Float64, sigma1: Float64, mu2: Float64, sigma2: Float64) -> float:
    """The FID (Heusel et al. 2017) of means (d,) and covariances (d, d), float64; singular ones too.

    Raises ArtifactError for statistics of unlike length, or that are not finite.
    """
    return distance_to(mu2, sigma2)(mu1, sigma1)


def distance_to(mu: Float64, sigma: Float64) -> Callable[[Float64, Float64], float]:
    """The FID to a mean (d,) and covariance (d, d), as a function of another mean and covariance; factors once.

    With S1 = LLᵀ, the trace of (S1 S2)^½ is the sum of the square roots of the eigenvalues of LᵀS2L, a symmetric
    matrix. Raises ArtifactError, as does the function, for statistics of unlike length, or that are not finite.
    """
    require_finite(mu, sigma)
    factor = _factor(sigma)

    def distance(mu2: Float64, sigma2: Float64) -> float:
        _require_alike(mu2, mu)
        require_finite(mu2, sigma2)
        roots = np.sqrt(np.linalg.eigvalsh(_congruent(factor, sigma2)).clip(min=0))
        step = mu - mu2
        return max(float(step @ step + np.trace(sigma) + np.trace(sigma2) - 2 * roots.sum()), 0.0)

    return distance


def influence(features: Features, mu_g: Float64, sigma_g: Float64, mu_r: Float64, sigma_r: Float64) -> Float64:
    """Each generated image's influence on the FID: float64 (N,), mean zero up to 1/N.

    The influence function of the FID (Heusel et al. 2017) at the generated distribution, for features (N, d) with
    moments mu_g (d,), sigma_g (d, d), against the real ones: with the optimal transport map T from N(0, sigma_g)
    to N(0, sigma_r), it is 2 (mu_g - mu_r)·c + cᵀ(I - T)c - tr((I - T) sigma_g) where c = x - mu_g.
    Raises ArtifactError for statistics of unlike length, or that are not finite.
    """
    _require_alike(mu_g, mu_r)
    require_finite(features, mu_g, sigma_g, mu_r, sigma_r)
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

    The real statistics count as given.
    """
    return float(np.sqrt(values.var(ddof=1) / len(values)))


def paired_difference(
    fid_a: float, influence_a: Float64, fid_b: float, influence_b: Float64, confidence: float = 0.95
) -> Difference:
    """FID of model b less that of model a, both measured on the same latents against the same real images.

    `influence_a` and `influence_b` (N,) belong to the same latents in the same order: what both models make of one
    latent goes up and down together, and the noise that they share cancels. The interval is two-sided, value ±
    z((1 + confidence) / 2) standard errors. Raises ArtifactError for influences of unlike length.
    """
    if influence_a.shape != influence_b.shape:
        raise ArtifactError(
            f"the two models were measured on {len(influence_a)} and {len(influence_b)} images, which cannot be "
            "paired; evaluate both with the same evaluate.count and evaluate.seed"
        )
    value, error = fid_b - fid_a, standard_error(influence_b - influence_a)
    reach = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return Difference(value, error, value - reach, value + reach)


def _factor(sigma: Float64) -> Float64:
    """L (d, d), lower triangular, with L Lᵀ = sigma; by PyTorch, whose Cholesky takes half of NumPy's time."""
    factor, failed = torch.linalg.cholesky_ex(torch.from_numpy(sigma).clone())
    if failed:  # fewer images than features, or a feature that never varies
        values, vectors = np.linalg.eigh(sigma)
        root = vectors * np.sqrt(values.clip(min=0))
        return np.asarray(np.linalg.qr(root.T)[1].T, dtype=np.float64)
    return np.asarray(factor.numpy(), dtype=np.float64)


def _congruent(factor: Float64, sigma: Float64) -> Float64:
    """The lower triangle of Lᵀ sigma L (d, d), which is all that `eigvalsh` reads; the rest is not that of the product.

    Block by block: L is zero above its diagonal, which leaves a quarter of the two products' work.
    """
    product = np.zeros_like(sigma)
    for first in range(0, len(sigma), PANEL):
        columns = slice(first, first + PANEL)
        right = sigma[first:, first:] @ factor[first:, columns]
        for top in range(first, len(sigma), PANEL):
            rows = slice(top, top + PANEL)
            product[rows, columns] = factor[top:, rows].T @ right[top - first :]
    return product


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

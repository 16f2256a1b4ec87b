"""How often 95 % intervals hold the truth: `python -m benchmarks.coverage [--features FILE]`.

Gaussians in 64 dimensions have a known FID. Of real features, the file's rows (npy or the stats.npz of a reference) are
the distribution: samples are drawn from it with replacement, and its own moments are the truth.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from ganflow.metrics import (
    distance_to,
    frechet_distance,
    infinite_fid,
    influence,
    moments,
    paired_difference,
    standard_error,
)

Float64 = NDArray[np.float64]
Gaussian = tuple[Float64, Float64]
Pair = Callable[[np.random.Generator, int], tuple[Float64, Float64]]
Z = NormalDist().inv_cdf(0.975)


def gaussians(d: int) -> list[Gaussian]:
    """Three unlike ones: real, and two models."""
    made = []
    for seed in range(3):
        random = np.random.default_rng(seed)
        factor = random.normal(size=(d, d)) / np.sqrt(d)
        made.append((random.normal(size=d) / 4, factor @ factor.T + 0.3 * np.eye(d)))
    return made


def simulate(d: int, n: int, trials: int) -> dict[str, float]:
    """Coverage for two Gaussian models on common latents against known real moments."""
    real, one, other = gaussians(d)
    factors = [np.linalg.cholesky(sigma) for _, sigma in (one, other)]

    def pair(random: np.random.Generator, size: int) -> tuple[Float64, Float64]:
        latents = random.normal(size=(size, d))
        return one[0] + latents @ factors[0].T, other[0] + latents @ factors[1].T

    return coverage(pair, real, (one, other), n, trials)


def resample(features: Float64, n: int, trials: int) -> dict[str, float]:
    """Coverage where real features (N, d) are the generated distribution, and a part of them dimmed is the other's.

    Model a draws rows of the second half as they are, model b the same rows shrunk by a tenth; the first half is real.
    """
    half = len(features) // 2
    real, population = moments(features[:half]), features[half:]

    def pair(random: np.random.Generator, size: int) -> tuple[Float64, Float64]:
        rows = population[random.integers(0, len(population), size)]
        return rows, 0.9 * rows

    def true(rows: Float64) -> Gaussian:
        mu, sigma = moments(rows)
        return mu, sigma * (len(rows) - 1) / len(rows)

    return coverage(pair, real, (true(population), true(0.9 * population)), n, trials)


def coverage(pair: Pair, real: Gaussian, truth: tuple[Gaussian, Gaussian], n: int, trials: int) -> dict[str, float]:
    """Part of the trials whose 95 % interval holds the truth.

    The target of `FID` and of the paired difference is the expectation at n images, bias included (the mean over the
    trials); that of `FID at infinity` is the distributions' own distance.
    """
    distance = distance_to(*real)
    rows = np.array([_trial(pair, real, distance, n, trial) for trial in range(trials)])
    (fid, se, infinite, difference, difference_se), limit = rows.T, frechet_distance(*truth[0], *real)
    return {
        "FID": _held(fid, se, fid.mean()),
        "FID at infinity": _held(infinite, se, limit),
        "paired difference": _held(difference, difference_se, difference.mean()),
        "bias of the FID, in standard errors": float((fid.mean() - limit) / se.mean()),
        "bias at infinity, in standard errors": float((infinite.mean() - limit) / se.mean()),
    }


def _trial(pair: Pair, real: Gaussian, distance: Callable[..., float], n: int, trial: int) -> list[float]:
    samples = pair(np.random.default_rng(1000 + trial), n)
    sides = [(rows, *moments(rows)) for rows in samples]
    fids = [distance(mu, sigma) for _, mu, sigma in sides]
    effects = [influence(rows, mu, sigma, *real) for rows, mu, sigma in sides]
    change = paired_difference(fids[0], effects[0], fids[1], effects[1])
    infinite = infinite_fid(samples[0], distance, trial)
    return [fids[0], standard_error(effects[0]), infinite, change.value, change.standard_error]


def _held(values: Float64, errors: Float64, truth: float) -> float:
    return float((np.abs(values - truth) <= Z * errors).mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--n", type=int, default=2500)
    parser.add_argument("--features", type=Path, help="npy (N, d), or a reference's stats.npz")
    arguments = parser.parse_args()
    if arguments.features:
        loaded = np.load(arguments.features)
        rows = np.concatenate([loaded["bank"], loaded["features"]]) if hasattr(loaded, "files") else loaded
        rows = rows[np.random.default_rng(0).permutation(len(rows))].astype(np.float64)
        found = resample(rows, arguments.n, arguments.trials)
    else:
        found = simulate(64, arguments.n, arguments.trials)
    for name, value in found.items():
        print(f"{name:40} {value:.3f}")


if __name__ == "__main__":
    main()

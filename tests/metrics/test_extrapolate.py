"""The FID at infinity, and the coverage of the intervals, by simulation."""

import numpy as np
import pytest

from benchmarks.coverage import gaussians
from benchmarks.coverage import simulate as simulate
from ganflow.metrics import distance_to, frechet_distance, infinite_fid, moments, paired_difference


def test_the_bias_is_gone() -> None:
    (real, one), found, biased = gaussians(16)[:2], [], []
    truth = frechet_distance(*one, *real)
    for seed in range(40):
        rows = np.random.default_rng(seed).multivariate_normal(*one, 300, method="cholesky")
        biased.append(frechet_distance(*moments(rows), *real))
        found.append(infinite_fid(rows, distance_to(*real), seed))
    bias = np.mean(biased) - truth
    assert bias > 5 * np.std(biased) / np.sqrt(40)
    assert abs(np.mean(found) - truth) < bias / 4


@pytest.mark.slow
def test_intervals_cover_as_they_say() -> None:
    covered = simulate(d=64, n=2500, trials=150)
    # 95 % of 150 trials: three standard deviations are 5.3 %
    assert covered["paired difference"] == pytest.approx(0.95, abs=0.054)
    assert covered["FID"] == pytest.approx(0.95, abs=0.054)


def test_a_shared_noise_cancels() -> None:
    random = np.random.default_rng(0)
    common, own = random.normal(size=1000), random.normal(size=1000) / 100
    found = paired_difference(3.0, common, 2.5, common + own)
    assert found.value == -0.5
    assert found.standard_error == pytest.approx(0.01 / np.sqrt(1000), rel=0.1)
    assert (found.low + found.high) / 2 == pytest.approx(-0.5)
    assert found.high - found.low == pytest.approx(2 * 1.959964 * found.standard_error, rel=1e-6)

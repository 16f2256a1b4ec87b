"""KID against the sum over pairs, torch-fidelity, and the distribution it should have."""

import numpy as np
import pytest

from ganflow.metrics import kernel_distance, polynomial_mmd


def draw(seed: int, n: int, shift: float = 0.0, d: int = 16) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, d)) + shift).astype(np.float32)


def test_the_estimate_is_the_sum_over_pairs() -> None:
    x, y = draw(0, 7).astype(float), draw(1, 5, 0.3).astype(float)

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float((a @ b / 16 + 1) ** 3)

    within_x = np.mean([k(x[i], x[j]) for i in range(7) for j in range(7) if i != j])
    within_y = np.mean([k(y[i], y[j]) for i in range(5) for j in range(5) if i != j])
    between = np.mean([k(a, b) for a in x for b in y])
    assert polynomial_mmd(x, y) == pytest.approx(within_x + within_y - 2 * between, rel=1e-12)


def test_equals_torch_fidelity() -> None:
    fidelity = pytest.importorskip("torch_fidelity.metric_kid")
    x, y = draw(0, 400), draw(1, 400, 0.2)
    kernels = [fidelity.kernel_poly(a.astype(float), b.astype(float), kid_kernel_poly_degree=3,
                                    kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1)
               for a, b in ((x, x), (x, y), (y, y))]  # fmt: skip
    assert polynomial_mmd(x, y) == pytest.approx(fidelity.mmd2(*kernels), rel=1e-8)


def test_unbiased_with_an_honest_error() -> None:
    found = [kernel_distance(draw(2 * i, 600), draw(2 * i + 1, 600), seed=i, block=60) for i in range(60)]
    values, errors = np.array([kid.value for kid in found]), np.array([kid.standard_error for kid in found])
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(60)
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.3)


def test_the_seed_draws_the_blocks() -> None:
    x, y = draw(0, 100), draw(1, 100)
    assert kernel_distance(x, y, 0, block=20) == kernel_distance(x, y, 0, block=20)
    assert kernel_distance(x, y, 0, block=20) != kernel_distance(x, y, 1, block=20)


def test_one_block_has_no_error() -> None:
    kid = kernel_distance(draw(0, 20), draw(1, 30), 0)
    assert np.isfinite(kid.value)
    assert np.isnan(kid.standard_error)

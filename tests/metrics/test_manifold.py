"""Precision, recall, density, coverage and nearest neighbours against the whole matrix and torch-fidelity."""

import numpy as np
import pytest
import torch

from ganflow.metrics import manifold, nearest, radii
from ganflow.metrics.manifold import COLUMNS, ROWS


def draw(seed: int, n: int, shift: float = 0.0, d: int = 8) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, d)) + shift).astype(np.float32)


def distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The whole matrix, in float64."""
    return np.linalg.norm(x[:, None].astype(float) - y[None], axis=2)


def test_radii_are_the_sorted_distances_to_others() -> None:
    x = draw(0, 60)
    expected = np.sort(distances(x, x), axis=1)[:, 1:6]
    np.testing.assert_allclose(radii(x), expected, rtol=1e-5)


def test_definitions_from_the_whole_matrix() -> None:
    x, y = draw(0, 300, 0.5), draw(1, 250)
    between = distances(x, y)
    near_x, near_y = (np.sort(distances(side, side), axis=1) for side in (x, y))
    found = manifold(x, y, radii(y))
    assert found.precision == (between <= near_y[None, :, 3]).any(1).mean()
    assert found.recall == (between <= near_x[:, 3, None]).any(0).mean()
    assert found.density == pytest.approx((between <= near_y[None, :, 5]).sum() / (5 * 300))
    assert found.coverage == (between <= near_y[None, :, 5]).any(0).mean()
    assert 0 < found.recall < 1
    assert 0 < found.precision < 1
    assert 0 < found.coverage < 1


@pytest.mark.slow
def test_equals_torch_fidelity_across_tiles() -> None:
    fidelity = pytest.importorskip("torch_fidelity.metric_prc")
    x, y = draw(0, ROWS + 700, 0.3, 32), draw(1, COLUMNS + 500, 0, 32)
    expected = fidelity.prc_features_to_metric(torch.from_numpy(x), torch.from_numpy(y), verbose=False)
    found = manifold(x, y, radii(y))
    assert found.precision == pytest.approx(expected["precision"], rel=1e-4)
    assert found.recall == pytest.approx(expected["recall"], rel=1e-4)


def test_nearest_across_tiles() -> None:
    x, y = draw(0, 30), draw(1, COLUMNS + 50)
    y[COLUMNS + 7] = x[3]
    found = nearest(x, y)
    expected = distances(x, y)
    np.testing.assert_array_equal(found.rows, expected.argmin(1))
    np.testing.assert_allclose(found.distances, expected.min(1), rtol=1e-4)
    assert found.distances[3] == 0
    assert found.rows[3] == COLUMNS + 7


def test_one_distribution() -> None:
    x, y = draw(0, 2000, d=2), draw(1, 2000, d=2)
    found = manifold(x, y, radii(y))
    assert found.precision > 0.95
    assert found.recall > 0.95
    assert found.density == pytest.approx(1, abs=0.1)
    assert found.coverage > 0.93


def test_far_apart_is_all_zero() -> None:
    x, y = draw(0, 50, 1000), draw(1, 50)
    assert manifold(x, y, radii(y)) == (0, 0, 0, 0)


def test_the_same_images_are_all_near_themselves() -> None:
    x = draw(0, 50) + 1e3
    found = manifold(x, x, radii(x))
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert nearest(x, x).distances.max() == 0


@pytest.mark.parametrize("n", [1, 2, 40])
def test_identical_images(n: int) -> None:
    x = np.full((n, 8), 3.3, np.float32)
    assert radii(x).tolist() == [[0.0] * 5] * n
    found = manifold(x, x, radii(x))
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)

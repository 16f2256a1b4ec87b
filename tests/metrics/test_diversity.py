"""Diversity against closed forms, and against collapses made by hand."""

import numpy as np
import pytest

from ganflow.errors import ArtifactError
from ganflow.metrics.diversity import class_distance, effective_rank, nearest_pair, pooled_pixels


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_pooled_pixels_are_means_of_squares():
    images = random().integers(0, 256, (2, 3, 28, 28), dtype=np.uint8)
    pooled = pooled_pixels(images)
    assert pooled.shape == (2, 3 * 7 * 7)
    assert pooled.dtype == np.float64
    assert pooled[1].reshape(3, 7, 7)[2, 6, 1] == pytest.approx(images[1, 2, 24:28, 4:8].mean(), rel=1e-15)


@pytest.mark.parametrize(("side", "pooled"), [(8, 8), (16, 8), (28, 7), (32, 8), (64, 8), (128, 8), (256, 8)])
def test_pooled_pixels_have_a_side_of_7_or_8(side, pooled):
    assert pooled_pixels(np.full((2, 1, side, side), 200, dtype=np.uint8)).tolist() == [[200.0] * pooled**2] * 2


def spread(variances: list[float], d: int) -> np.ndarray:
    """Features (2 len(variances), d) whose covariance has just these eigenvalues, in a random basis."""
    basis = np.linalg.qr(random().normal(size=(d, d)))[0][: len(variances)]
    n = 2 * len(variances)
    half = np.sqrt(np.array(variances) * (n - 1) / 2)[:, None] * basis
    return np.concatenate([half, -half]) + 100


def test_effective_rank_counts_equal_directions():
    assert effective_rank(spread([2.0] * 5, 12)) == pytest.approx(5, rel=1e-9)


def test_effective_rank_by_hand():
    # Shares 1/2, 1/4, 1/4: the entropy is 1.5 ln 2.
    assert effective_rank(spread([8.0, 4.0, 4.0], 12)) == pytest.approx(2**1.5, rel=1e-9)


def test_effective_rank_knows_no_scale():
    features = random().normal(size=(50, 9)) * np.arange(1, 10)
    assert effective_rank(1e-3 * features) == pytest.approx(effective_rank(features), rel=1e-9)


def test_effective_rank_of_one_image_again_and_again_is_0():
    image = random().integers(0, 256, (1, 3, 32, 32), dtype=np.uint8)
    assert effective_rank(pooled_pixels(np.repeat(image, 37, axis=0))) == 0


def test_effective_rank_refuses_what_it_cannot_measure():
    with pytest.raises(ArtifactError, match="2 images"):
        effective_rank(np.zeros((1, 4)))
    with pytest.raises(ArtifactError, match="not finite"):
        effective_rank(np.full((3, 4), np.nan))


def test_nearest_pair_by_hand():
    # Nearest others at 3, 3, 5 and 8: the lower quartile is 3, and after moving the second point by 1 it is 4.
    points = np.array([[0.0, 0.0], [0.0, 3.0], [5.0, 0.0], [0.0, -8.0]]) + 1e8
    assert nearest_pair(points) == pytest.approx(3, rel=1e-7)
    points[1] += (0.0, 1.0)
    assert nearest_pair(points) == pytest.approx(4, rel=1e-7)


def test_nearest_pair_falls_when_a_third_are_copies_and_minds_no_fifth():
    features = random().normal(size=(256, 49))
    whole = nearest_pair(features)
    modes = random(1).normal(size=(3, 49))
    for share, low, high in ((0.2, 0.8, 1.1), (0.35, 0.0, 0.1)):
        mixed = features.copy()
        copies = round(share * 256)
        mixed[:copies] = modes[np.arange(copies) % 3] + 0.01 * random(2).normal(size=(copies, 49))
        assert low <= nearest_pair(mixed) / whole <= high


def test_nearest_pair_of_equal_rows_is_0():
    assert nearest_pair(np.tile(random().normal(size=(5, 49)) * 100, (20, 1))) == pytest.approx(0, abs=1e-4)


def test_class_distance_is_total_variation():
    frequencies = np.array([0.5, 0.25, 0.25])
    assert class_distance(np.array([0, 0, 1, 2]), frequencies) == 0
    assert class_distance(np.array([0, 0, 0, 0]), frequencies) == pytest.approx(0.5)
    assert class_distance(np.array([2, 2]), np.array([0.5, 0.5, 0.0])) == pytest.approx(1)


def test_class_distance_by_chance_is_what_its_docstring_says():
    labels = random().integers(0, 10, (200, 2000))
    distances = [class_distance(row, np.full(10, 0.1)) for row in labels]
    assert np.mean(distances) == pytest.approx(0.4 * np.sqrt(10 / 2000), rel=0.1)

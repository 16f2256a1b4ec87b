"""The Fréchet distance against closed forms, torch-fidelity, and simulation."""

import numpy as np
import pytest

from ganflow.errors import ArtifactError
from ganflow.metrics import frechet_distance, influence, moments, standard_error


def gaussian(seed: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """A mean and a well-conditioned covariance."""
    random = np.random.default_rng(seed)
    factor = random.normal(size=(d, d)) / np.sqrt(d)
    return random.normal(size=d) / 2, factor @ factor.T + 0.3 * np.eye(d)


def draw(seed: int, n: int, mu: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    return np.random.default_rng(seed).multivariate_normal(mu, sigma, n, method="cholesky")


def test_moments_keep_their_digits_far_from_zero() -> None:
    features = np.random.default_rng(0).normal(size=(5000, 6)) + 1e7
    mu, sigma = moments(features)
    np.testing.assert_allclose(mu - 1e7, (features - 1e7).mean(0), atol=4e-9)  # two units in the last place
    np.testing.assert_allclose(sigma, np.cov(features - 1e7, rowvar=False), rtol=1e-8, atol=1e-10)


def test_moments_of_float32_are_float64() -> None:
    features = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    mu, sigma = moments(features)
    assert mu.dtype == sigma.dtype == np.float64
    np.testing.assert_allclose(sigma, np.cov(features.astype(np.float64), rowvar=False), rtol=1e-12, atol=1e-14)


def test_closed_form_of_commuting_covariances() -> None:
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(5, 5)))[0]
    a, b = np.array([4.0, 1.0, 9.0, 0.25, 2.0]), np.array([1.0, 1.0, 4.0, 16.0, 3.0])
    mu1, mu2 = np.zeros(5), np.arange(5.0)
    expected = np.sum((mu1 - mu2) ** 2) + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    found = frechet_distance(mu1, basis * a @ basis.T, mu2, basis * b @ basis.T)
    assert found == pytest.approx(expected, rel=1e-12)


def test_closed_form_of_singular_covariances() -> None:
    a, b = np.array([4.0, 0.0, 0.0, 9.0]), np.array([1.0, 0.0, 25.0, 0.0])
    expected = np.sum((np.sqrt(a) - np.sqrt(b)) ** 2)
    for one, other in ((a, b), (b, a)):
        found = frechet_distance(np.zeros(4), np.diag(one), np.zeros(4), np.diag(other))
        assert found == pytest.approx(expected, rel=1e-12)


def test_fewer_images_than_features() -> None:
    # 20 points span the same 19 dimensions before and after a shift by 3 along one axis.
    features = np.random.default_rng(0).normal(size=(20, 64))
    mu, sigma = moments(features)
    assert frechet_distance(mu, sigma, mu, sigma) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(mu, sigma, mu + 3 * np.eye(64)[0], sigma) == pytest.approx(9, abs=1e-5)
    assert frechet_distance(mu, sigma, mu, 4 * sigma) == pytest.approx(np.trace(sigma), rel=1e-6)


def test_symmetry_and_identity() -> None:
    one, other = gaussian(1, 24), gaussian(2, 24)
    assert frechet_distance(*one, *other) == pytest.approx(frechet_distance(*other, *one), rel=1e-12)
    assert frechet_distance(*one, *one) == pytest.approx(0, abs=1e-12)


def test_equals_torch_fidelity() -> None:
    fidelity = pytest.importorskip("torch_fidelity.metric_fid")
    one = moments(draw(1, 500, *gaussian(1, 64)))
    other = moments(draw(2, 400, *gaussian(2, 64)))
    statistics = [{"mu": mu, "sigma": sigma} for mu, sigma in (one, other)]
    expected = fidelity.fid_statistics_to_metric(*statistics, verbose=False)[fidelity.KEY_METRIC_FID]
    assert frechet_distance(*one, *other) == pytest.approx(expected, rel=1e-8)


def test_influence_is_the_derivative() -> None:
    real, (mu, sigma) = gaussian(1, 8), gaussian(2, 8)
    points, step = draw(3, 5, mu, 4 * sigma), 1e-5

    def mixed(x: np.ndarray, part: float) -> float:
        """FID when a `part` of the generated distribution is at x."""
        deviation = x - mu
        spread = (1 - part) * sigma + part * (1 - part) * np.outer(deviation, deviation)
        return frechet_distance(mu + part * deviation, spread, *real)

    expected = [(mixed(x, step) - mixed(x, -step)) / (2 * step) for x in points]
    np.testing.assert_allclose(influence(points, mu, sigma, *real), expected, rtol=1e-5)


def test_influence_has_mean_zero() -> None:
    real, features = gaussian(1, 8), draw(3, 5000, *gaussian(2, 8))
    values = influence(features, *moments(features), *real)
    assert values.dtype == np.float64
    assert abs(values.mean()) < 2e-3 * values.std()


def test_influence_of_fewer_images_than_features_is_finite() -> None:
    features = draw(3, 20, *gaussian(2, 64))
    for real in (gaussian(1, 64), moments(draw(4, 15, *gaussian(1, 64)))):
        values = influence(features, *moments(features), *real)
        assert np.isfinite(values).all()
        assert abs(values.mean()) < values.std()


def test_influence_of_a_feature_that_never_varies() -> None:
    real, features = gaussian(1, 8), draw(3, 1000, *gaussian(2, 8))
    _, sigma = real
    mu_r = np.append(real[0], 5.0)
    sigma_r = np.block([[sigma, np.zeros((8, 1))], [np.zeros((1, 8)), np.zeros((1, 1))]])
    wider = np.hstack([features, np.full((1000, 1), 7.0)])
    expected = influence(features, *moments(features), *real)
    np.testing.assert_allclose(influence(wider, *moments(wider), mu_r, sigma_r), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("d", [8, 16])
def test_standard_error_is_the_spread_of_repeats(d: int) -> None:
    real, generated = gaussian(1, d), gaussian(2, d)
    distances, errors = [], []
    for repeat in range(200):
        features = draw(100 + repeat, 1000, *generated)
        mu, sigma = moments(features)
        distances.append(frechet_distance(mu, sigma, *real))
        errors.append(standard_error(influence(features, mu, sigma, *real)))
    assert np.mean(errors) == pytest.approx(np.std(distances, ddof=1), rel=0.15)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    mu, sigma = gaussian(1, 4)
    broken = sigma.copy()
    broken[0, 0] = bad
    with pytest.raises(ArtifactError, match="not finite"):
        moments(np.array([[0.0, bad], [1.0, 2.0]]))
    with pytest.raises(ArtifactError, match="not finite"):
        frechet_distance(mu, sigma, mu, broken)
    with pytest.raises(ArtifactError, match="not finite"):
        influence(np.full((3, 4), bad), mu, sigma, mu, sigma)


def test_one_image_has_no_covariance() -> None:
    with pytest.raises(ArtifactError, match="2 images or more, and there are 1"):
        moments(np.zeros((1, 4)))


def test_statistics_of_unlike_extractors_are_refused() -> None:
    with pytest.raises(ArtifactError, match="4 and 5 features"):
        frechet_distance(*gaussian(1, 4), *gaussian(1, 5))

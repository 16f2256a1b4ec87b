"""All the numbers of an evaluation together, from features that are whatever they are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ganflow.errors import ArtifactError
from ganflow.metrics import Extractor, Measured, measure, real_statistics
from ganflow.metrics.classifier import fit_classifier
from ganflow.metrics.scores import nearer


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    images = np.random.default_rng(0).integers(0, 255, (8, 1, 28, 28), dtype=np.uint8)
    return Extractor(fit_classifier(images, np.arange(8) % 2, 2, 1, 0, lambda done, total: None), "0")


def draw(seed: int, n: int, shift: float = 0.0, d: int = 128) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, d)) + shift).astype(np.float32)


def test_names_carry_metric_extractor_and_count(extractor: Extractor) -> None:
    found = measure(extractor, draw(0, 2000, 0.1), real_statistics(draw(1, 2000), draw(2, 500)), 0)
    metrics = ["fid", "kid", "inception_score"]
    expected = {f"{name}_classifier_2k{end}" for name in metrics for end in ("", "_se")}
    plain = ["fid_infinity", "precision", "recall", "density", "coverage", "nearest_distance", "memorisation"]
    assert set(found.scores) == expected | {f"{name}_classifier_2k" for name in plain}
    assert found.influence.shape == (2000,)
    assert found.warnings == []
    assert found.scores["fid_infinity_classifier_2k"] < found.scores["fid_classifier_2k"]
    assert found.neighbours.rows.max() < 500


def test_copies_of_the_training_images_are_noticed(extractor: Extractor) -> None:
    train, held_out = draw(0, 400, d=128), draw(1, 300, d=128)
    real = real_statistics(held_out, train)
    copies = measure(extractor, train[:300] + 1e-3, real, 0).scores
    honest = measure(extractor, draw(2, 300), real, 0).scores
    assert copies["memorisation_classifier_300"] == 1
    assert honest["memorisation_classifier_300"] == pytest.approx(0.5, abs=0.08)
    assert copies["nearest_distance_classifier_300"] < honest["nearest_distance_classifier_300"] / 50


def test_ties_count_half() -> None:
    assert nearer(np.ones(3, np.float32), np.ones(5, np.float32)) == 0.5
    assert nearer(np.array([0, 1], np.float32), np.array([1, 2], np.float32)) == (1 + 1 + 0.5 + 1) / 4


def test_fewer_samples_than_dimensions_are_named(extractor: Extractor) -> None:
    found = measure(extractor, draw(0, 100), real_statistics(draw(1, 200)), 0)
    (warning,) = found.warnings
    assert warning.startswith("fewer samples than dimensions: 100 generated images and 128 features")


shapes = st.tuples(st.integers(2, 40), st.just(128))
values = st.sampled_from([0.0, 1.0, -1.0, 0.5, 1e-3, 100.0])


@settings(max_examples=30, deadline=None)
@given(arrays(np.float32, shapes, elements=values), arrays(np.float32, shapes, elements=values))
def test_degenerate_features_give_numbers(extractor: Extractor, x: np.ndarray, y: np.ndarray) -> None:
    found: Measured = measure(extractor, x, real_statistics(y), 0)
    assert all(np.isfinite(value) for value in found.scores.values())
    assert np.isfinite(found.influence).all()
    parts = [value for name, value in found.scores.items() if name.split("_")[0] in ("precision", "recall", "coverage")]
    assert all(0 <= part <= 1 for part in parts)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(extractor: Extractor, bad: float) -> None:
    broken = draw(0, 50)
    broken[7, 3] = bad
    with pytest.raises(ArtifactError, match="not finite"):
        measure(extractor, broken, real_statistics(draw(1, 50)), 0)
    with pytest.raises(ArtifactError, match="not finite"):
        real_statistics(broken)


def test_features_of_another_length_are_refused(extractor: Extractor) -> None:
    with pytest.raises(ArtifactError, match="64 and 128 features"):
        measure(extractor, draw(0, 50, d=64), real_statistics(draw(1, 50)), 0)

"""The Inception Score: its two ends, and torch-fidelity."""

import numpy as np
import pytest
import torch

from ganflow.metrics import inception_score


def test_sure_and_even_gives_the_number_of_classes() -> None:
    assert inception_score(np.tile(np.eye(5), (20, 1)), splits=10).value == pytest.approx(5)


def test_one_class_and_no_idea_give_one() -> None:
    assert inception_score(np.eye(5)[np.zeros(50, int)]).value == pytest.approx(1)
    assert inception_score(np.full((50, 5), 0.2)).value == pytest.approx(1)


def test_equals_torch_fidelity() -> None:
    fidelity = pytest.importorskip("torch_fidelity.metric_isc")
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(500, 10)))
    expected = fidelity.isc_features_to_metric(logits, splits=10, shuffle=False)
    found = inception_score(logits.softmax(1).numpy())
    assert found.value == pytest.approx(expected["inception_score_mean"], rel=1e-9)
    # Theirs is the spread of the parts; ours the error of their mean.
    assert found.standard_error == pytest.approx(expected["inception_score_std"] / 3, rel=1e-9)


def test_fewer_images_than_parts() -> None:
    assert inception_score(np.eye(3)).value == pytest.approx(1)
    assert np.isnan(inception_score(np.eye(3)[:1]).standard_error)

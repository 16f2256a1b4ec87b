"""Scores' names."""

import pytest

from ganflow.metrics import score_name


@pytest.mark.parametrize(
    ("extractor", "count", "name"),
    [
        ("classifier", 10_000, "fid_classifier_10k"),
        ("inception", 512, "fid_inception_512"),
        ("inception", 1500, "fid_inception_1500"),
        ("classifier", 1000, "fid_classifier_1k"),
    ],
)
def test_score_name(extractor: str, count: int, name: str) -> None:
    assert score_name(extractor, count) == name

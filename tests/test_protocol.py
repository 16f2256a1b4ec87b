"""Scores' names, and which may be compared."""

import pytest

from ganflow.errors import ArtifactError
from ganflow.protocol import differing_field, require_same_protocol, score_name


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


def test_another_metric_has_its_own_name() -> None:
    assert score_name("inception", 50_000, "kid") == "kid_inception_50k"


def test_the_differing_field_is_named() -> None:
    one = {"seed": 0, "extractor": "inception", "real_count": 10}
    require_same_protocol(one, dict(reversed(one.items())))
    assert differing_field(one, one | {"seed": 1, "real_count": 9}) == "real_count"
    with pytest.raises(ArtifactError, match="differ in seed, which is 0 in one and 1 in the other"):
        require_same_protocol(one, one | {"seed": 1})


def test_a_field_that_one_lacks_differs() -> None:
    assert differing_field({}, {"resize": None}) == "resize"
    assert differing_field({"resize": None}, {}) == "resize"

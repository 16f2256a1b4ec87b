"""Scores' names, fingerprints, and the refusal to compare unlikes."""

import pytest

from ganflow.errors import ArtifactError
from ganflow.metrics import fingerprint, require_same, score_name


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


def test_fingerprint_depends_on_values_and_not_on_their_order() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1, "b": 2}) != fingerprint({"a": 1, "b": 3})
    # Fixed, because it is compared with fingerprints of earlier releases.
    assert fingerprint({"count": 512}) == "a6d4300f083aaf15def24f46d32e406c500c764d1264b2438779c70459049d02"


def test_like_protocols_pass() -> None:
    require_same({"count": 512, "data": {"a": 1, "b": 2}}, {"data": {"b": 2, "a": 1}, "count": 512})


def test_the_first_difference_is_named() -> None:
    one, other = {"count": 512, "seed": 0, "dtype": "f4"}, {"count": 512, "seed": 1, "dtype": "f4"}
    with pytest.raises(ArtifactError, match="seed is 0 in one protocol and 1 in the other"):
        require_same(one, other)


def test_a_missing_field_is_a_difference() -> None:
    with pytest.raises(ArtifactError, match='dtype is nothing in one protocol and "f4" in the other'):
        require_same({"count": 512}, {"count": 512, "dtype": "f4"})
    with pytest.raises(ArtifactError, match='dtype is "f4" in one protocol and nothing in the other'):
        require_same({"count": 512, "dtype": "f4"}, {"count": 512})

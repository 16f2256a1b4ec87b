"""What a score is called, and when two of them may be compared."""

from typing import Any

from ganflow.errors import ArtifactError

Protocol = dict[str, Any]


def score_name(extractor: str, count: int, metric: str = "fid") -> str:
    """`fid_classifier_10k`, `kid_inception_512`: the FID is biased in the count, so the count is in its name."""
    return f"{metric}_{extractor}_{f'{count // 1000}k' if count % 1000 == 0 else count}"


def differing_field(one: Protocol, other: Protocol) -> str | None:
    """The first field, by name, in which two protocols differ; a field that one lacks differs. None if they agree."""
    unlike = (key for key in sorted(one | other) if key not in one or key not in other or one[key] != other[key])
    return next(unlike, None)


def require_same_protocol(one: Protocol, other: Protocol) -> None:
    """Raise ArtifactError, naming the field, when scores of these protocols cannot be compared."""
    field = differing_field(one, other)
    if field is not None:
        raise ArtifactError(
            f"the scores cannot be compared: the protocols differ in {field}, which is {one.get(field)!r} in one and "
            f"{other.get(field)!r} in the other; evaluate both under one protocol"
        )

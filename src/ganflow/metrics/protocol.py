"""What a score's number depends on, beside the model: its name, its fingerprint, and the refusal to compare unlikes."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ganflow.errors import ArtifactError


def score_name(extractor: str, count: int) -> str:
    """`fid_classifier_10k`, `fid_inception_512`: the FID is biased in the count, so the count is in its name."""
    return f"fid_{extractor}_{f'{count // 1000}k' if count % 1000 == 0 else count}"


def fingerprint(protocol: Mapping[str, Any]) -> str:
    """sha256, in hex, of the protocol's sorted JSON."""
    return hashlib.sha256(json.dumps(protocol, sort_keys=True, allow_nan=False).encode()).hexdigest()


def require_same(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Raise ArtifactError, which names the first differing field and both values, unless the protocols are equal."""
    for field in sorted({*a, *b}):
        one, other = (
            json.dumps(protocol[field], sort_keys=True) if field in protocol else "nothing" for protocol in (a, b)
        )
        if one != other:
            raise ArtifactError(
                f"the scores are not comparable: {field} is {one} in one protocol and {other} in the other; "
                "evaluate both models against the same reference"
            )

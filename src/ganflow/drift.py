"""Two versions of a set beside each other: which files and images came and went, and how far apart they look."""

import hashlib
import math
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganflow import metrics
from ganflow.artifacts import Prepared
from ganflow.config import Data, Evaluate
from ganflow.data import prepare
from ganflow.errors import DataError
from ganflow.fetch import fetch, listing
from ganflow.images import AnyImages, Labels, open_prepared
from ganflow.metrics import Extractor
from ganflow.pin import Pin
from ganflow.progress import progress

KID_BLOCKS = 10
"""At least so many blocks give the KID its error."""
CERTAIN = 2.0
"""A KID of so many standard errors is a drift."""


class _Version(NamedTuple):
    images: AnyImages
    labels: Labels | None
    card: dict[str, Any]
    hashes: list[bytes]
    """Of each image's pixels (N,)."""


def compare_versions(one: Pin, other: Pin, data: Data, evaluate: Evaluate) -> dict[str, Any]:
    """What `ganflow data diff` says of an earlier and a later version, for JSON.

    Files are compared by their md5, images by their pixels after `prepare` with the section `data`. FID and KID are
    those of evaluate.count images of each, the same where both versions have them, by the extractor of the section
    `evaluate`; a classifier is fitted to the earlier version. Their errors count the images of the versions as drawn
    independently, which is cautious where they share some. Versions of equal content have no scores.

    Raises StoreError for what the remotes lack, and what `prepare` raises for a set that it cannot read.
    """
    found: dict[str, Any] = {"from": one.model_dump(), "to": other.model_dump(), **_files(listing(one), listing(other))}
    if one.md5 == other.md5:
        return found | {"identical": True}
    with tempfile.TemporaryDirectory(prefix="ganflow-diff-") as folder:
        before, after = (_version(pin, Path(folder) / name, data) for pin, name in ((one, "one"), (other, "other")))
        return found | {
            "identical": False,
            "images": _images(before, after),
            "classes": {"before": _classes(before), "after": _classes(after)},
            **_scores(before, after, evaluate),
        }


def _files(before: dict[str, str], after: dict[str, str]) -> dict[str, Any]:
    both = before.keys() & after.keys()
    return {
        "files": {
            "added": sorted(after.keys() - both),
            "removed": sorted(before.keys() - both),
            "changed": sorted(path for path in both if before[path] != after[path]),
        }
    }


def _version(pin: Pin, folder: Path, data: Data) -> _Version:
    with progress("fetch", "bytes") as advance:
        raw = fetch(pin, advance)
    with progress("prepare") as advance:
        prepare(raw, folder, data, advance)
    images, labels, card = open_prepared(Prepared(folder))
    return _Version(
        images, labels, card, [hashlib.md5(image.tobytes(), usedforsecurity=False).digest() for image in images]
    )


def _images(before: _Version, after: _Version) -> dict[str, int]:
    old, new = Counter(before.hashes), Counter(after.hashes)
    return {
        "before": old.total(),
        "after": new.total(),
        "added": (new - old).total(),
        "removed": (old - new).total(),
    }


def _classes(version: _Version) -> dict[str, int] | None:
    """Images by class, both splits together."""
    splits = version.card["class_counts"]
    return dict(sum(map(Counter, splits.values()), Counter())) if splits else None


def _scores(before: _Version, after: _Version, settings: Evaluate) -> dict[str, Any]:
    count = min(settings.count, len(before.images), len(after.images))
    if count < 2 * KID_BLOCKS:
        raise DataError(f"{count} images are too few to measure a drift; compare versions of {2 * KID_BLOCKS} or more")
    with progress("fit the extractor") as advance:
        split = before.card["train"]
        labels = None if before.labels is None else before.labels[:split]
        classes = len(before.card["classes"] or ())
        extractor = metrics.fit_or_load(settings, before.images[:split], labels, classes, advance)
    one, other = (_features(extractor, version, count) for version in (before, after))
    statistics = (*metrics.moments(other), *metrics.moments(one))
    errors = (
        metrics.standard_error(metrics.influence(other, *statistics)),
        metrics.standard_error(metrics.influence(one, *statistics[2:], *statistics[:2])),
    )
    kid = metrics.kernel_distance(other, one, settings.seed, min(1000, count // KID_BLOCKS))
    fid_name, kid_name = (metrics.score_name(extractor.name, count, metric) for metric in ("fid", "kid"))
    return {
        fid_name: metrics.frechet_distance(*statistics),
        f"{fid_name}_se": math.hypot(*errors),
        kid_name: kid.value,
        f"{kid_name}_se": kid.standard_error,
        "drift": kid.value > CERTAIN * kid.standard_error,
    }


def _features(extractor: Extractor, version: _Version, count: int) -> NDArray[np.float32]:
    """Features (count, d) of the images with the smallest hashes: two versions give those that they share."""
    rows = np.array(sorted(range(len(version.hashes)), key=version.hashes.__getitem__)[:count])
    with progress("measure") as advance:
        return metrics.extract(extractor, _batches(version.images, rows), lambda done: advance(done, count))


def _batches(images: AnyImages, rows: NDArray[np.int64], size: int = 512) -> Iterator[Tensor]:
    for first in range(0, len(rows), size):
        yield torch.from_numpy(images[rows[first : first + size]])


def table(found: dict[str, Any]) -> str:
    """The comparison as text, a line a fact."""
    versions = [found[side]["revision"][:12] for side in ("from", "to")]
    lines = [f"{found['from']['path']}: {versions[0]} to {versions[1]}"]
    for change, paths in found["files"].items():
        shown = ", ".join(paths[:5]) + (", …" if len(paths) > 5 else "")
        lines.append(f"files {change:<8} {len(paths)}  {shown}".rstrip())
    if found["identical"]:
        return "\n".join([*lines, "the same data"])
    lines += [
        "images         {before} before, {after} after: {added} added, {removed} removed".format(**found["images"])
    ]
    before, after = (found["classes"][side] or {} for side in ("before", "after"))
    lines += [f"class {name}: {before.get(name, 0)} before, {after.get(name, 0)} after" for name in before | after]
    scores = [name for name in found if f"{name}_se" in found]
    lines += [f"{name}  {found[name]:.4g} ± {found[f'{name}_se']:.2g}" for name in scores]
    return "\n".join([*lines, "drift: the KID is above its noise" if found["drift"] else "no drift above the noise"])

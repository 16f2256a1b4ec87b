"""The step itself: list the raw set, plan the rows, decode image by image, write the card last."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganflow.artifacts import Prepared, content_address, file_hash, new_folder
from ganflow.config import Data
from ganflow.data.decode import decode, decode_array
from ganflow.data.plan import Plan, check_splits, make_plan
from ganflow.data.raw import Indices, Item, RawSet, Rejected, Rejection
from ganflow.data.sources import open_raw
from ganflow.data.writer import ImageFile
from ganflow.errors import DataError

LOSSY = (".jpg", ".jpeg")
FORMAT = 1


def prepare(raw: Path, out: Path, settings: Data, advance: Callable[[int, int], None]) -> dict[str, Any]:
    """Decode, check, crop, resize and split the raw images at `raw` into the folder `out`; return its card.

    Writes images.npy, uint8 (N, C, H, W) with the train split first; labels.npy, int64 (N,), if the set has classes;
    and dataset.json, which lists every rejected file with its reason. Equal input and settings give equal bytes.
    `advance(done, total)` is called as images pass. Memory does not grow with the size or number of the images.

    Raises DataError when the raw set is missing, damaged or unlabeled, when data.held_out or data.classes does not fit
    it, and when more than data.max_rejected_fraction of it is rejected; what was in `out` then stays.
    Raises ArtifactError when `out` holds something that `prepare` did not write.
    """
    found = open_raw(raw)
    plan = make_plan(found, settings)
    with new_folder(Prepared, out) as folder:
        reasons = _write_images(found, plan, settings, folder, advance)
        rejected = [*found.rejected, *(Rejection(found.name(index), why) for index, why in reasons.items())]
        rejected.sort(key=lambda rejection: rejection.file)
        _check_rejected(raw, rejected, len(plan.images) + len(found.rejected), settings)
        keep = ~np.isin(plan.images, list(reasons))
        if plan.labels is not None:
            np.save(folder.labels, plan.labels[keep])
        kept_out = int(keep[len(plan.train) :].sum())
        card = _card(raw, plan, keep, settings, folder) | {
            "rejected": [asdict(rejection) for rejection in rejected],
            "rejected_count": len(rejected),
            "lossy_held_out": sum(
                found.name(i).lower().endswith(LOSSY) for i in plan.images[keep][-kept_out:].tolist()
            ),
        }
        return folder.write_card(card)


def _write_images(
    found: RawSet, plan: Plan, settings: Data, folder: Prepared, advance: Callable[[int, int], None]
) -> dict[int, str]:
    """Write images.npy; return the index and the reason of every image that is left out."""
    images, size = plan.images, settings.resolution
    row_of = dict(zip(images.tolist(), range(len(images)), strict=True))
    reasons: dict[int, str] = {}
    done = 0
    with ImageFile(folder.images, (len(images), settings.channels, size, size)) as file:
        for index, pixels in _decoded(found.read(np.sort(images)), settings):
            if isinstance(pixels, Rejected):
                reasons |= dict.fromkeys(index.tolist(), str(pixels))
            else:
                file.put(np.array([row_of[i] for i in index.tolist()]), pixels)
            done += len(index)
            advance(done, len(images))
        file.close_gaps(~np.isin(images, list(reasons)))
    return reasons


def _decoded(items: Iterator[Item], settings: Data) -> Iterator[tuple[Indices, NDArray[np.uint8] | Rejected]]:
    for index, raw in items:
        try:
            if isinstance(raw, Rejected):
                yield index, raw
            elif isinstance(raw, bytes):
                yield index, decode(raw, settings)[None]
            else:
                yield index, decode_array(raw, settings)
        except Rejected as reason:
            yield index, reason


def _check_rejected(raw: Path, rejected: list[Rejection], total: int, settings: Data) -> None:
    fraction = len(rejected) / total
    if fraction > settings.max_rejected_fraction:
        first = rejected[0]
        raise DataError(
            f"{raw}: {len(rejected)} of {total} files are rejected ({fraction:.1%}), above data.max_rejected_fraction "
            f"{settings.max_rejected_fraction}; mend or remove them, the first is {first.file}, which {first.reason}"
        )


def _card(raw: Path, plan: Plan, keep: NDArray[np.bool_], settings: Data, folder: Prepared) -> dict[str, Any]:
    border = len(plan.train)
    splits = {"train": keep[:border], "held_out": keep[border:]}
    counts = {split: int(kept.sum()) for split, kept in splits.items()}
    check_splits(counts["train"], counts["held_out"], settings)
    labels = {"train": plan.labels[:border], "held_out": plan.labels[border:]} if plan.labels is not None else None
    return counts | {
        "format": FORMAT,
        "name": raw.absolute().name,
        "channels": settings.channels,
        "resolution": settings.resolution,
        "classes": plan.classes,
        "class_counts": {split: _count(labels[split][kept], plan.classes or []) for split, kept in splits.items()}
        if labels
        else None,
        "raw_md5": content_address(raw),
        "images_md5": file_hash(folder.images, "md5"),
        "labels_md5": file_hash(folder.labels, "md5") if labels else None,
        "parameters": settings.model_dump(mode="json"),
    }


def _count(labels: Indices, classes: list[str]) -> dict[str, int]:
    return {name: int(count) for name, count in zip(classes, np.bincount(labels, minlength=len(classes)), strict=True)}

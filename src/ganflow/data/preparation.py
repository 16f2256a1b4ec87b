"""The step itself: list the raw set, plan the rows, decode them on all cores, check them, write the card last."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganflow.artifacts import Prepared, file_hash, listing_address, resumed_folder
from ganflow.config import Data
from ganflow.data.cards import write_cards
from ganflow.data.checks import check, enforce
from ganflow.data.decoding import Decoder
from ganflow.data.journal import stamp
from ganflow.data.plan import Plan, check_splits, make_plan
from ganflow.data.pool import cores
from ganflow.data.raw import SIZES, Indices, RawSet, Rejection, Sizes
from ganflow.data.sources import open_raw
from ganflow.data.work import Finished
from ganflow.data.writer import Rows
from ganflow.errors import DataError
from ganflow.images import map_images

FORMAT = 2
Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Decoded:
    """Rows of a set, whose kept images are in files already."""

    name: str
    """Of the set."""
    raw_md5: str
    total: int
    """Planned rows of the set."""
    train: int
    """How many of them are for training."""
    span: tuple[int, int]
    """The first of these rows, and the one behind the last."""
    classes: list[str] | None
    labels: Indices | None
    """(n,) of these rows."""
    left_out: list[int]
    """Places among these rows of the images that are rejected."""
    strangers: list[Rejection]
    """Files of the set that are no images."""
    rejected: list[Rejection]
    """Of these rows."""
    lossy_held_out: int
    kinds: dict[str, int]
    """How many raw images had which size and mode."""
    files: list[Finished]

    @property
    def keep(self) -> NDArray[np.bool_]:
        """(n,), the rows whose images are in the files."""
        return ~np.isin(np.arange(self.span[1] - self.span[0]), self.left_out)


def prepare(
    raw: Path, out: Path, settings: Data, advance: Advance, processes: int | None = None, sizes: Sizes = SIZES
) -> dict[str, Any]:
    """Decode, check, crop, resize and split the raw images at `raw` into the folder `out`; return its card.

    Writes images.npy, uint8 (N, C, R, R) with the train split first, or images-00000.npy and so on where that would be
    above 64 MiB; labels.npy, int64 (N,), if the set has classes; findings.json, montage.png and card.html, what the
    checks found; and dataset.json, which lists every rejected file with its reason. Equal input and settings give equal
    bytes, by any number of processes (None: one a core). `advance(done, total)` is called as images pass. Memory does
    not grow with the size or number of the images, but for the names of files and some 130 bytes an image. What was
    interrupted goes on where it was, when neither the raw files nor the settings have changed. `sizes` says how much is
    taken at a time, and how large the files are.

    Raises DataError when the raw set is missing, damaged or unlabeled, when data.held_out or data.classes does not fit
    it, when more than data.max_rejected_fraction of it is rejected, and when it breaks a rule of data.checks; what was
    in `out` then stays. Raises ArtifactError when `out` holds something that `prepare` did not write.
    """
    found = open_raw(raw)
    plan = make_plan(found, settings)
    with resumed_folder(Prepared, out, stamp(raw, settings.json_text(), str(FORMAT))) as folder:
        rows = Rows(folder.path, len(plan.images), settings.image_shape, sizes)
        made = decode(raw, found, plan, slice(0, rows.count), rows, settings, advance, processes)
        return conclude(folder, made, rows, settings)


def decode(
    raw: Path,
    found: RawSet,
    plan: Plan,
    span: slice,
    out: Rows,
    settings: Data,
    advance: Advance,
    processes: int | None,
) -> Decoded:
    """Write the images of these rows of the plan into the files of `out`."""
    done = Decoder(raw, found, plan, span, settings, out).run(advance, processes or cores())
    images = plan.images[span]
    return Decoded(
        name=raw.absolute().name,
        raw_md5=done.raw_md5,
        total=len(plan.images),
        train=len(plan.train),
        span=(span.start, span.stop),
        classes=plan.classes,
        labels=None if plan.labels is None else plan.labels[span],
        left_out=sorted(done.reasons),
        strangers=found.rejected,
        rejected=[Rejection(found.name(int(images[row])), why) for row, why in done.reasons.items()],
        lossy_held_out=done.lossy_held_out,
        kinds=done.kinds,
        files=done.files,
    )


def conclude(folder: Prepared, made: Decoded, rows: Rows, settings: Data) -> dict[str, Any]:
    """Check a whole set whose images are in the files of `rows`, and write all that stands beside; return the card."""
    rejected = sorted([*made.strangers, *made.rejected], key=lambda rejection: rejection.file)
    _check_rejected(made.name, rejected, made.total + len(made.strangers), settings)
    keep = made.keep
    train, held_out = int(keep[: made.train].sum()), int(keep[made.train :].sum())
    check_splits(train, held_out, settings)
    labels = None if made.labels is None else made.labels[keep]
    if labels is not None:
        np.save(folder.labels, labels)
    paths = [rows.finished(file.shard) for file in made.files]
    images = map_images(paths)
    found = np.concatenate([np.load(rows.signatures(file.shard), mmap_mode="r") for file in made.files])
    findings = check(images, labels, found, train, made.classes or [], made.kinds)
    enforce(findings, settings.checks, made.name)
    files = [
        {"name": path.name, "md5": file.md5, "count": file.count} for path, file in zip(paths, made.files, strict=True)
    ]
    card = {
        "format": FORMAT,
        "name": made.name,
        "train": train,
        "held_out": held_out,
        "channels": settings.channels,
        "resolution": settings.resolution,
        "classes": made.classes,
        "class_counts": None if labels is None else _class_counts(labels, train, made.classes or []),
        "raw_md5": made.raw_md5,
        "files": files,
        "images_md5": _address(files),
        "labels_md5": None if labels is None else file_hash(folder.labels, "md5"),
        "rejected": [asdict(rejection) for rejection in rejected],
        "rejected_count": len(rejected),
        "lossy_held_out": made.lossy_held_out,
        "parameters": settings.model_dump(mode="json"),
    }
    write_cards(folder, card, findings, images)
    return folder.write_card(card)


def _check_rejected(name: str, rejected: list[Rejection], total: int, settings: Data) -> None:
    fraction = len(rejected) / total
    if fraction > settings.max_rejected_fraction:
        first = rejected[0]
        raise DataError(
            f"{name}: {len(rejected)} of {total} files are rejected ({fraction:.1%}), above data.max_rejected_fraction "
            f"{settings.max_rejected_fraction}; mend or remove them, the first is {first.file}, which {first.reason}"
        )


def _address(files: Sequence[dict[str, Any]]) -> str:
    """md5 of the one file, or DVC's address of a folder of several."""
    md5s = [(str(file["name"]), str(file["md5"])) for file in files]
    return md5s[0][1] if len(files) == 1 else listing_address(md5s)


def _class_counts(labels: Indices, train: int, classes: list[str]) -> dict[str, dict[str, int]]:
    return {
        split: dict(zip(classes, np.bincount(part, minlength=len(classes)).tolist(), strict=True))
        for split, part in (("train", labels[:train]), ("held_out", labels[train:]))
    }

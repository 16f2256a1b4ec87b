"""Raw sets of several files whose samples carry their own labels: WebDataset's tar shards, and Parquet."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ganflow.data.raw import Chunk, Indices, RawSet, Rejection, Sizes
from ganflow.errors import DataError

SPLITS = {"train": False, "training": False, "test": True, "val": True, "validation": True}
"""Words in a file's name, and whether its images are held out."""


@dataclass
class Shard:
    """One file's images, in its order."""

    path: Path
    names: Callable[[int], str]
    labels: Sequence[str | int | None]
    """Of each image; all None where the set has no labels."""
    chunks: Callable[[Indices, Indices, Sizes], Iterator[Chunk]]
    """Images by their places in the file (ascending), and the indices that they have in the set."""
    rejected: list[Rejection] = field(default_factory=list)


def join(folder: Path, shards: Sequence[Shard], names: list[str] | None) -> RawSet:
    """The set of these files, one after the other; `names` are the classes of numbers.

    Labels that are words are the classes' names. The files' names may say train and test. Raises DataError when some
    images have a label and others have none, and for a number that has no name.
    """
    starts = np.cumsum([0, *(len(shard.labels) for shard in shards)])
    numbers, classes = _labels(folder, [label for shard in shards for label in shard.labels], names)

    def name(index: int) -> str:
        which = int(np.searchsorted(starts, index, side="right")) - 1
        return shards[which].names(index - int(starts[which]))

    def chunks(wanted: Indices, sizes: Sizes) -> Iterator[Chunk]:
        for shard, first, last in zip(shards, starts[:-1], starts[1:], strict=True):
            mine = wanted[(wanted >= first) & (wanted < last)]
            if len(mine):
                yield from shard.chunks(mine - first, mine, sizes)

    held_out = [_held_out(shard.path) for shard in shards]
    own = set(held_out) == {True, False}
    return RawSet(
        count=int(starts[-1]),
        name=name,
        labels=numbers,
        classes=classes,
        held_out=np.repeat(np.array(held_out, bool), np.diff(starts)) if own else None,
        rejected=[rejection for shard in shards for rejection in shard.rejected],
        chunks=chunks,
    )


def _held_out(path: Path) -> bool | None:
    """What the file's name says; None if it says nothing."""
    words = re.split(r"[^a-z]+", path.name.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), None)


def _labels(
    folder: Path, labels: list[str | int | None], names: list[str] | None
) -> tuple[Indices | None, list[str] | None]:
    values = set(labels)
    if values <= {None}:
        return None, None
    if None in values:
        raise DataError(
            f"{folder} has {labels.count(None)} images without a label among {len(labels)}; label them all, or none"
        )
    if names is None or any(isinstance(value, str) for value in values):
        names = [str(value) for value in sorted(values, key=lambda value: (isinstance(value, str), value))]
        number = {name: place for place, name in enumerate(names)}
        return np.array([number[str(label)] for label in labels], np.int64), names
    outside = next((value for value in values if not 0 <= int(value or 0) < len(names)), None)
    if outside is not None:
        raise DataError(
            f"{folder} has the label {outside}, outside the {len(names)} classes of classes.txt; name every class "
            "there, one a line"
        )
    return np.array(labels, np.int64), names

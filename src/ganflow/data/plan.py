"""Which raw images go into which split, and under which label; decided before any is decoded."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganflow.config import Data
from ganflow.data.raw import Indices, RawSet
from ganflow.errors import DataError


@dataclass(frozen=True)
class Plan:
    """Indices in the raw set, ascending, and what their labels mean."""

    train: Indices
    held_out: Indices
    labels: Indices | None
    """(N,), train split first."""
    classes: list[str] | None

    @property
    def images(self) -> Indices:
        """Index of each planned row (N,), train split first."""
        return np.concatenate([self.train, self.held_out])


def make_plan(found: RawSet, settings: Data) -> Plan:
    """Filter by class, split, then limit. Raises DataError for unknown classes and for an empty split."""
    labels = _renumbered(found, settings.classes) if settings.classes is not None else found.labels
    kept = np.arange(found.count) if labels is None else np.flatnonzero(labels >= 0)
    held_out = _held_out(found, kept, settings)
    train, test = kept[~held_out][: settings.limit], kept[held_out][: settings.limit]
    check_splits(len(train), len(test), settings)
    chosen = labels[np.concatenate([train, test])] if labels is not None else None
    return Plan(train, test, chosen, settings.classes if settings.classes is not None else found.classes)


def check_splits(train: int, held_out: int, settings: Data) -> None:
    """Raise DataError when a split has no image."""
    if not (train and held_out):
        raise DataError(
            f"{train} images are left for training and {held_out} held out, with data.held_out {settings.held_out}; "
            "give the set more images, or change data.held_out, data.classes or data.min_size"
        )


def _renumbered(found: RawSet, wanted: list[str]) -> Indices:
    """Labels (count,) as places in `wanted`; -1 for the other classes."""
    known = found.classes or []
    wrong = next((name for name in wanted if name not in known or wanted.count(name) > 1), None)
    if found.labels is None or wrong is not None:
        raise DataError(
            f"data.classes has {wrong or 'no name'}, and the raw set's classes are {', '.join(known) or '(none)'}; "
            "name some of these, each once, or null for all"
        )
    number = np.full(len(known), -1, np.int64)
    number[[known.index(name) for name in wanted]] = np.arange(len(wanted))
    return number[found.labels]


def _held_out(found: RawSet, kept: Indices, settings: Data) -> NDArray[np.bool_]:
    """Which of the kept images (n,) are held out."""
    if settings.held_out == "own":
        if found.held_out is None:
            raise DataError(
                "data.held_out is own, and the raw set has no test split of its own; "
                "set data.held_out to a fraction such as 0.1"
            )
        return found.held_out[kept]
    from ganflow.randomness import Stream, permutation  # brings torch, which the processes that decode do without

    drawn = permutation(settings.seed, Stream.HELD_OUT, len(kept)).numpy()[: round(len(kept) * settings.held_out)]
    held_out = np.zeros(len(kept), bool)
    held_out[drawn] = True
    return held_out

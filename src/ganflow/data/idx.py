"""The MNIST family: idx files, plain or gzipped."""

import gzip
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import numpy as np

from ganflow.data.arrays import Array, Stream, raw_set
from ganflow.data.raw import RawSet, Rejection, ignored, reading
from ganflow.errors import DataError

SPLITS = ("train", "t10k")
IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
SUFFIXES = ("idx3-ubyte", "idx3-ubyte.gz")


def is_idx_folder(folder: Path) -> bool:
    """Whether the folder has the images of a split under their usual name."""
    return any(_find(folder, f"{split}-{IMAGES}") for split in SPLITS)


def open_folder(folder: Path, names: list[str] | None) -> RawSet:
    """The set in a folder of train-images-idx3-ubyte[.gz] and its like; t10k-* and labels may be missing.

    Raises DataError for a damaged file, a missing train split, or labels of one split only.
    """
    images = [file for split in SPLITS if (file := _find(folder, f"{split}-{IMAGES}"))]
    labels = [file for split in SPLITS if (file := _find(folder, f"{split}-{LABELS}"))]
    if not images[0].name.startswith("train"):
        raise DataError(f"{folder} has no train-{IMAGES}, only t10k-{IMAGES}; add it")
    if len(labels) not in (0, len(images)):
        raise DataError(f"{folder} has labels of one split only ({labels[0].name}); add the other's, or remove them")
    others = sorted(path.name for path in folder.iterdir() if path not in images + labels and not ignored(path.name))
    found = raw_set([_array(file, 3) for file in images], [_array(file, 1) for file in labels], names, len(images) == 2)
    found.rejected.extend(Rejection(name, "is not a file of the MNIST family") for name in others)
    return found


def open_file(path: Path, names: list[str] | None) -> RawSet:
    """The set in a single idx file of images. Raises DataError when it is damaged."""
    return raw_set([_array(path, 3)], [], names)


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _array(path: Path, axes: int) -> Array:
    with reading(path, "an idx file"), _open(path) as stream:
        header = np.frombuffer(stream.read(4 + 4 * axes), ">u4", 1 + axes)
    if header[0] != 0x800 + axes:
        raise DataError(f"{path} starts with {header[0]:#010x}, not {0x800 + axes:#010x}; it must be idx{axes}-ubyte")
    shape = tuple(int(length) for length in header[1:])
    plain = path.suffix != ".gz"
    return Array(path, path.name, shape, np.dtype(np.uint8), header.nbytes, partial(_open, path), plain)


def _open(path: Path) -> AbstractContextManager[Stream]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")

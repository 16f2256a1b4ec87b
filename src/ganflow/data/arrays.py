"""Raw sets that are arrays already: a header, then the pixels in C order; read in pieces, never whole."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ganflow.data.raw import MAX_PIXELS, Chunk, Indices, Item, Loaded, RawSet, Sizes, reading
from ganflow.errors import DataError

DEFLATE_RATIO = 1032
"""Deflate cannot shrink more than this, so a file bounds what its header may promise."""
CHANNELS = (1, 3, 4)


class Stream(Protocol):
    """What is needed of a file, plain, gzipped or in a zip."""

    def read(self, size: int = ..., /) -> bytes:
        """The next `size` bytes, fewer only at the end."""

    def tell(self) -> int:
        """How many bytes have been read."""


@dataclass(frozen=True)
class Array:
    """An array in a file: `open` gives the stream, whose elements start at `offset`.

    The elements of a `plain` file lie in it as they are, and nothing behind them.
    """

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    open: Callable[[], AbstractContextManager[Stream]]
    plain: bool

    def check_size(self) -> None:
        """Raise DataError when the file cannot hold what its header promises, or holds more."""
        size, held = prod(self.shape) * self.dtype.itemsize, self.path.stat().st_size
        if size > (held - self.offset if self.plain else DEFLATE_RATIO * held):
            raise DataError(
                f"{self.path} is cut short: its header promises {size} bytes of {self.name}, and it cannot hold them; "
                "get it again, or run `dvc checkout`"
            )
        if self.plain and size < held - self.offset:
            raise _longer(self)


@dataclass(frozen=True)
class Rows:
    """A chunk of a plain array: neighbours, from which those at `chosen` (n,) are taken."""

    index: Indices
    path: Path
    offset: int
    shape: tuple[int, ...]
    chosen: Indices

    def read(self) -> Iterator[Item]:
        """The pixels, at once."""
        with reading(self.path, "images"), self.path.open("rb") as file:
            file.seek(self.offset)
            pixels = np.frombuffer(file.read(prod(self.shape)), np.uint8, prod(self.shape))
        yield _channels_last(pixels.reshape(self.shape))[self.chosen]


def raw_set(
    images: Sequence[Array], labels: Sequence[Array], names: list[str] | None, own_split: bool = False
) -> RawSet:
    """The set of these arrays, one after the other; with `own_split` the last is held out.

    `labels` is empty, or has one for each of `images`; `names` are the classes, None to call them by their numbers.
    Raises DataError for a wrong dtype, shape, or count, and for a label that has no name.
    """
    for array in images:
        _check_images(array)
        array.check_size()
    for array, label in zip(images, labels, strict=bool(labels)):
        _check_labels(array, label)
        label.check_size()
    counts = [array.shape[0] for array in images]
    starts = np.cumsum([0, *counts])
    numbers, classes = _classes(labels, names)

    def name(index: int) -> str:
        which = int(np.searchsorted(starts, index, side="right")) - 1
        return f"{images[which].name}[{index - starts[which]}]"

    def chunks(wanted: Indices, sizes: Sizes) -> Iterator[Chunk]:
        for array, start in zip(images, starts.tolist(), strict=False):
            mine = wanted[(wanted >= start) & (wanted < start + array.shape[0])] - start
            yield from (_rows if array.plain else _stream)(array, mine, start, sizes)

    held_out = np.arange(sum(counts)) >= starts[-2] if own_split else None
    return RawSet(sum(counts), name, numbers, classes, held_out, [], chunks)


def _check_images(array: Array) -> None:
    shape = array.shape
    fits = len(shape) == 3 or (len(shape) == 4 and (shape[3] in CHANNELS or shape[1] in CHANNELS))
    if array.dtype != np.uint8 or not fits or min(shape) < 1:
        raise DataError(
            f"{array.name} in {array.path} is {array.dtype} {shape}, not images; "
            "save it as uint8 of the shape (N, H, W), (N, H, W, C) or (N, C, H, W), with C 1, 3 or 4"
        )
    if prod(shape[1:]) > MAX_PIXELS * max(CHANNELS):
        raise DataError(f"{array.name} in {array.path} has images above {MAX_PIXELS} pixels; save smaller ones")


def _check_labels(images: Array, labels: Array) -> None:
    if labels.dtype.kind not in "iu" or len(labels.shape) != 1:
        raise DataError(
            f"{labels.name} in {labels.path} is {labels.dtype} {labels.shape}, not labels; "
            "save one integer for each image"
        )
    if labels.shape[0] != images.shape[0]:
        raise DataError(
            f"{labels.name} in {labels.path} has {labels.shape[0]} labels for the {images.shape[0]} images of "
            f"{images.name}; give one label for each image"
        )


def _classes(labels: Sequence[Array], names: list[str] | None) -> tuple[Indices | None, list[str] | None]:
    """Labels as numbers (N,) in the list of classes; without names, the values that occur are the names."""
    if not labels:
        return None, None
    values = np.concatenate([_elements(array) for array in labels])
    if names is None:
        found, numbers = np.unique(values, return_inverse=True)
        return numbers.astype(np.int64), [str(value) for value in found]
    outside = values[(values < 0) | (values >= len(names))]
    if len(outside):
        raise DataError(
            f"{labels[0].path.parent} has the label {outside[0]}, outside the {len(names)} classes of classes.txt; "
            "name every class there, one a line"
        )
    return values, names


def _elements(array: Array) -> Indices:
    with reading(array.path, "labels"), array.open() as stream:
        stream.read(array.offset)
        values = np.frombuffer(stream.read(array.shape[0] * array.dtype.itemsize), array.dtype, array.shape[0])
        _check_end(array, stream)
        return values.astype(np.int64)


def _spans(array: Array, wanted: Indices, sizes: Sizes) -> Iterator[tuple[int, int, Indices]]:
    """Neighbours in the array, from start on so many, and which of them are wanted; the array is covered in order."""
    step = min(max(1, sizes.chunk_bytes // prod(array.shape[1:])), sizes.chunk_images)
    for start in range(0, int(wanted[-1]) + 1 if len(wanted) else 0, step):
        count = min(step, array.shape[0] - start)
        first, last = np.searchsorted(wanted, (start, start + count))
        yield start, count, wanted[first:last] - start


def _rows(array: Array, wanted: Indices, first: int, sizes: Sizes) -> Iterator[Chunk]:
    size = prod(array.shape[1:])
    for start, count, chosen in _spans(array, wanted, sizes):
        if len(chosen):
            offset, shape = array.offset + start * size, (count, *array.shape[1:])
            yield Rows(chosen + start + first, array.path, offset, shape, chosen)


def _stream(array: Array, wanted: Indices, first: int, sizes: Sizes) -> Iterator[Chunk]:
    """Read from front to back; after the last image, the file must end."""
    size, start, count = prod(array.shape[1:]), 0, 0
    with reading(array.path, "images"), array.open() as stream:
        stream.read(array.offset)
        for start, count, chosen in _spans(array, wanted, sizes):
            pixels = np.frombuffer(stream.read(count * size), np.uint8, count * size)
            if len(chosen):
                pixels = _channels_last(pixels.reshape(count, *array.shape[1:]))[chosen]
                yield Loaded(chosen + start + first, [pixels])
        for _ in range(start + count, array.shape[0]):  # what is not wanted must be whole too
            stream.read(size)
        _check_end(array, stream)


def _check_end(array: Array, stream: Stream) -> None:
    """Reading the end is also what makes gzip and zip compare their checksums."""
    if stream.read(1):
        raise _longer(array)


def _longer(array: Array) -> DataError:
    return DataError(f"{array.path} holds more than its header promises; get it again, or run `dvc checkout`")


def _channels_last(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if pixels.ndim == 3:
        return pixels[..., None]
    return pixels if pixels.shape[3] in CHANNELS else pixels.transpose(0, 2, 3, 1)

"""Arrays of images: the prepared ones, and pictures of many."""

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import Image

from ganflow.artifacts import Prepared, atomic, check_hash

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


class Stack:
    """Images (N, C, R, R) in several arrays, indexed as one; only what is asked for is read."""

    dtype = np.dtype(np.uint8)

    def __init__(self, parts: Sequence[Images]) -> None:
        self.parts = parts
        self.starts = np.cumsum([0, *map(len, parts)])

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, R, R)."""
        return (len(self), *self.parts[0].shape[1:])

    @property
    def nbytes(self) -> int:
        """Of all pixels."""
        return sum(part.nbytes for part in self.parts)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __iter__(self) -> Iterator[Images]:
        for part in self.parts:
            yield from part

    @overload
    def __getitem__(self, key: slice) -> "Stack": ...
    @overload
    def __getitem__(self, key: int | Labels) -> Images: ...
    def __getitem__(self, key: slice | int | Labels) -> "Stack | Images":
        """A slice of neighbours is a view; images by index (n,) are a copy, the only one that is made."""
        if isinstance(key, slice):
            first, last, _ = key.indices(len(self))
            bounds = np.clip((first, last), self.starts[:-1, None], self.starts[1:, None]) - self.starts[:-1, None]
            return Stack([part[start:stop] for part, (start, stop) in zip(self.parts, bounds, strict=True)])
        index = np.atleast_1d(key)
        out = np.empty((len(index), *self.shape[1:]), np.uint8)
        which = np.searchsorted(self.starts, index, side="right") - 1
        for part in np.unique(which):
            here = which == part
            out[here] = self.parts[part][index[here] - self.starts[part]]
        return out if isinstance(key, np.ndarray) else out[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return np.concatenate(self.parts).astype(dtype or np.uint8, copy=False)


AnyImages = Images | Stack


def open_prepared(prepared: Prepared) -> tuple[AnyImages, Labels | None, dict[str, Any]]:
    """Memory-mapped images (N, C, R, R), labels (N,) if there are any, and the card.

    Raises ArtifactError when the folder is unfinished, or a file's md5 is not what the card says.
    """
    card = prepared.read_card()
    files = [(prepared.path / file["name"], file["md5"]) for file in card["files"]]
    with ThreadPoolExecutor() as threads:  # hashes leave the interpreter to the others
        list(threads.map(lambda file: check_hash(file[0], file[1], Prepared.MAKER, "md5"), files))
    images = map_images([path for path, _ in files])
    if card["labels_md5"] is None:
        return images, None, card
    check_hash(prepared.labels, card["labels_md5"], Prepared.MAKER, "md5")
    return images, np.load(prepared.labels, mmap_mode="r"), card


def map_images(paths: Sequence[Path]) -> AnyImages:
    """The images of these npy files, one after the other, memory-mapped."""
    parts = [np.load(path, mmap_mode="r") for path in paths]
    return parts[0] if len(parts) == 1 else Stack(parts)


def grid(images: Images, columns: int | None = None, gap: int = 2) -> Images:
    """Lay uint8 images (N,C,H,W) out row by row on white, `gap` pixels apart; returns (H', W', C)."""
    n, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, dtype=np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return sheet


def png(pixels: Images, scale: int = 1) -> bytes:
    """A PNG file of (H, W, 1 or 3) pixels, each `scale` wide."""
    picture = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    if scale > 1:
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    file = BytesIO()
    picture.save(file, format="PNG")
    return file.getvalue()


def write_png(path: Path, pixels: Images, scale: int = 1) -> None:
    """Write a `png`, whole or not at all."""
    with atomic(path) as partial:
        partial.write_bytes(png(pixels, scale))

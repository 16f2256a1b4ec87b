"""What a process of `prepare` is given to do: decode a chunk, finish a file, take a hash. None of it needs torch."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganflow.artifacts import file_hash
from ganflow.config import Data
from ganflow.data.decode import decode, decode_array, lossy, quiet, stack
from ganflow.data.raw import CHUNK_BYTES, Chunk, Indices, Rejected
from ganflow.data.signatures import signatures
from ganflow.data.writer import Rows

ARRAY_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
UNREAD = "0" * 32
"""In the place of an md5."""


@dataclass(frozen=True)
class Decoded:
    """What became of a chunk."""

    number: int
    rejected: list[tuple[int, str]]
    """Row and reason."""
    lossy: int
    """Held-out images that come from JPEG or lossy WebP."""
    md5: list[str]
    """Of the items, where they are files of the raw folder."""
    kinds: dict[str, int]
    """How many of the images had which size and mode, such as `640x480 RGB`."""


@dataclass(frozen=True)
class Decode:
    """Decode a chunk and write its images to rows (n,); those from `border` on are held out."""

    number: int
    chunk: Chunk
    rows: Indices
    out: Rows
    settings: Data
    border: int
    loose: bool

    def __call__(self) -> Decoded:
        """Do it. Raises DataError when the set is damaged, OSError when the disk is full."""
        rejected: list[tuple[int, str]] = []
        md5: list[str] = []
        kinds: Counter[str] = Counter()
        lossies = 0
        pictures: list[Image.Image] = []
        rows: list[int] = []
        with quiet():
            for item, row in zip(self.chunk.read(), self.rows.tolist(), strict=False):
                if isinstance(item, np.ndarray):
                    return self._pixels(item)
                if self.loose:
                    md5.append(UNREAD if isinstance(item, Rejected) else _md5(item))
                try:
                    if isinstance(item, Rejected):
                        raise item
                    image, size, mode = decode(item, self.settings)
                except Rejected as reason:
                    rejected.append((row, str(reason)))
                    continue
                pictures.append(image)
                rows.append(row)
                if len(rows) * self.out.image_bytes >= CHUNK_BYTES:
                    self._put(rows, pictures)
                kinds[f"{size[0]}x{size[1]} {mode}"] += 1
                lossies += row >= self.border and lossy(item)
        self._put(rows, pictures)
        return Decoded(self.number, rejected, lossies, md5, dict(kinds))

    def _put(self, rows: list[int], pictures: list[Image.Image]) -> None:
        """Write what was decoded, and forget it."""
        if rows:
            self.out.put(np.array(rows), stack(pictures, self.settings))
        rows.clear()
        pictures.clear()

    def _pixels(self, images: NDArray[np.uint8]) -> Decoded:
        """An array is the chunk's one item, and what is wrong with one of its images is wrong with all."""
        _, height, width, channels = images.shape
        kinds = {f"{width}x{height} {ARRAY_MODES[channels]}": len(images)}
        try:
            self.out.put(self.rows, decode_array(images, self.settings))
        except Rejected as reason:
            return Decoded(self.number, [(row, str(reason)) for row in self.rows.tolist()], 0, [], {})
        return Decoded(self.number, [], 0, [], kinds)


@dataclass(frozen=True)
class Finished:
    """A file of images that has its final name."""

    shard: int
    md5: str
    count: int


@dataclass(frozen=True)
class Finish:
    """Finish a file with the rows (n,) that are kept, and take their signatures."""

    shard: int
    keep: NDArray[np.bool_]
    out: Rows

    def __call__(self) -> Finished:
        """Do it; the signatures lie beside the file."""
        seen: list[NDArray[np.int8]] = []
        md5 = self.out.finish(self.shard, self.keep, lambda images: seen.append(signatures(images)))
        np.save(self.out.signatures(self.shard), np.concatenate(seen))
        return Finished(self.shard, md5, int(self.keep.sum()))


@dataclass(frozen=True)
class Hashed:
    """A raw file's md5."""

    name: str
    md5: str


@dataclass(frozen=True)
class Hash:
    """Take the md5 of a raw file."""

    name: str
    path: Path

    def __call__(self) -> Hashed:
        """Do it."""
        return Hashed(self.name, file_hash(self.path, "md5"))


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()

"""What a process of `prepare` is given to do: decode a chunk, finish a file, take a hash. None of it needs torch."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ganflow.artifacts import file_hash
from ganflow.config import Data
from ganflow.data.decode import decode, decode_array, lossy, quiet, write
from ganflow.data.raw import Chunk, Indices, Rejected
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
    md5: str
    """Of the items, one behind the other, where they are files of the raw folder."""
    kinds: dict[str, int]
    """How many of the images had which size and mode, such as `640x480 RGB`."""


@dataclass
class Tally:
    """What has become of a chunk's images so far."""

    rejected: list[tuple[int, str]] = field(default_factory=list)
    lossy: int = 0
    md5: list[str] = field(default_factory=list)
    kinds: Counter[tuple[tuple[int, int], str]] = field(default_factory=Counter)


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
        items = self.chunk.read()
        item = next(items)
        if isinstance(item, np.ndarray):
            return self._pixels(item)
        files, tally = cast(Iterator[bytes | Rejected], chain([item], items)), Tally()
        room = max(1, self.out.sizes.chunk_bytes // self.out.image_bytes)
        with quiet():
            for first in range(0, len(self.rows), room):
                self._files(self.rows[first : first + room], files, tally)
        kinds = {f"{width}x{height} {mode}": count for ((width, height), mode), count in tally.kinds.items()}
        return Decoded(self.number, tally.rejected, tally.lossy, "".join(tally.md5), kinds)

    def _files(self, rows: Indices, files: Iterator[bytes | Rejected], tally: Tally) -> None:
        """Decode the next files, one for each of the rows (n,), and write them in the rows' order."""
        images = np.empty((len(rows), *self.out.image_shape), np.uint8)
        keep = np.zeros(len(rows), bool)
        order = np.argsort(rows)
        for row, place, file in zip(rows.tolist(), np.argsort(order).tolist(), files, strict=False):
            if self.loose:
                tally.md5.append(UNREAD if isinstance(file, Rejected) else _md5(file))
            try:
                if isinstance(file, Rejected):
                    raise file
                image, size, mode = decode(file, self.settings)
            except Rejected as reason:
                tally.rejected.append((row, str(reason)))
                continue
            write(image, images[place])
            keep[place] = True
            tally.kinds[size, mode] += 1
            tally.lossy += row >= self.border and lossy(file)
        self.out.put(rows[order][keep], images if keep.all() else images[keep])

    def _pixels(self, images: NDArray[np.uint8]) -> Decoded:
        """An array is the chunk's one item, and what is wrong with one of its images is wrong with all."""
        _, height, width, channels = images.shape
        kinds = {f"{width}x{height} {ARRAY_MODES[channels]}": len(images)}
        try:
            self.out.put(self.rows, decode_array(images, self.settings))
        except Rejected as reason:
            return Decoded(self.number, [(row, str(reason)) for row in self.rows.tolist()], 0, "", {})
        return Decoded(self.number, [], 0, "", kinds)


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

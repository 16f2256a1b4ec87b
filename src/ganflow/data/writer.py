"""The prepared images on disk: rows that many processes write in any order, in files that are finished one by one."""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from math import prod
from pathlib import Path

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ganflow.artifacts import Prepared
from ganflow.data.raw import SIZES, Indices, Sizes
from ganflow.images import Images

PIECE_BYTES = 1 << 20
"""Of a file that is being finished: hashed and looked at while the processor's cache holds it."""


@dataclass(frozen=True)
class Rows:
    """uint8 images (N, C, R, R), N planned, in npy files of equally many rows; a plain value, which processes share.

    A file that is not finished is `.images-00000.rows`: the npy file, with a place for every planned row.
    """

    folder: Path
    count: int
    image_shape: tuple[int, int, int]
    sizes: Sizes = SIZES

    @property
    def image_bytes(self) -> int:
        """Of one image."""
        return prod(self.image_shape)

    @property
    def shard_rows(self) -> int:
        """Rows of every file but the last."""
        return max(1, self.sizes.file_bytes // self.image_bytes)

    @property
    def shards(self) -> int:
        """How many files there are."""
        return -(-self.count // self.shard_rows)

    def span(self, shard: int) -> slice:
        """The rows of a file."""
        return slice(shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.count))

    def finished(self, shard: int) -> Path:
        """The file's final name."""
        return Prepared(self.folder).images(shard, self.shards)

    def signatures(self, shard: int) -> Path:
        """Where the signatures of a finished file are kept until the set is."""
        return self.folder / f".signatures-{shard:05}.npy"

    def put(self, rows: Indices, images: Images) -> None:
        """Write images (n, C, R, R) to rows (n,); neighbours go in one write."""
        starts = np.flatnonzero((np.diff(rows, prepend=-2) != 1) | (np.diff(rows // self.shard_rows, prepend=-1) != 0))
        opened: dict[int, int] = {}
        try:
            for first, end in pairwise([*starts.tolist(), len(rows)]):
                shard, place = divmod(int(rows[first]), self.shard_rows)
                if shard not in opened:
                    opened[shard] = os.open(self._unfinished(shard), os.O_WRONLY | os.O_CREAT, 0o644)
                start = len(self._header(0)) + place * self.image_bytes
                _write_at(opened[shard], np.ascontiguousarray(images[first:end]).data.cast("B"), start)
        finally:
            for file in opened.values():
                os.close(file)

    def sync(self, shard: int) -> None:
        """Have the disk keep what was put into a file that is not finished."""
        if self._unfinished(shard).exists():
            with self._unfinished(shard).open("rb") as file:
                os.fdatasync(file.fileno())

    def finish(self, shard: int, keep: NDArray[np.bool_], see: Callable[[Images], None]) -> str:
        """Give the file of the rows (n,) that are kept its final name; return its md5.

        `see` is shown all of them, in pieces (m, C, R, R). What is killed on the way can begin again.
        """
        digest = hashlib.md5(self._header(int(keep.sum())), usedforsecurity=False)
        unfinished, compact = self._unfinished(shard), self._unfinished(shard).with_suffix(".kept")
        if not unfinished.exists():
            self.finished(shard).rename(unfinished)
        os.truncate(unfinished, len(self._header(0)) + len(keep) * self.image_bytes)
        with unfinished.open("r+b") if keep.all() else compact.open("wb") as file:
            file.write(self._header(int(keep.sum())))
            for piece in self._pieces(shard, keep):
                digest.update(piece.data)
                see(piece)
                if not keep.all():
                    file.write(piece.data)
            file.flush()
            os.fdatasync(file.fileno())
        (unfinished if keep.all() else compact).replace(self.finished(shard))
        unfinished.unlink(missing_ok=True)
        return digest.hexdigest()

    def _unfinished(self, shard: int) -> Path:
        return self.folder / f".images-{shard:05}.rows"

    def _pieces(self, shard: int, keep: NDArray[np.bool_]) -> Iterator[Images]:
        """The kept rows of an unfinished file."""
        shape = (len(keep), *self.image_shape)
        rows = np.asarray(np.memmap(self._unfinished(shard), np.uint8, "r", len(self._header(0)), shape))
        step = max(1, PIECE_BYTES // self.image_bytes)
        for first in range(0, len(keep), step):
            piece, kept = rows[first : first + step], keep[first : first + step]
            yield piece if kept.all() else piece[kept]

    def _header(self, count: int) -> bytes:
        """Its length does not depend on `count`: numpy pads the first axis to 21 digits."""
        header = BytesIO()
        npy.write_array_header_1_0(
            header, {"descr": "|u1", "fortran_order": False, "shape": (count, *self.image_shape)}
        )
        return header.getvalue()


def _write_at(file: int, data: memoryview, start: int) -> None:
    while data:
        written = os.pwrite(file, data, start)
        data, start = data[written:], start + written

"""images.npy, written image by image in any order, in memory that does not grow with their number."""

from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from ganflow.data.raw import Indices


class ImageFile:
    """A .npy file of uint8 (N, C, H, W), open for writing by row; `close_gaps` settles N."""

    def __init__(self, path: Path, shape: tuple[int, int, int, int]) -> None:
        self.file = path.open("w+b")
        self.image_shape = shape[1:]
        self.image_bytes = int(np.prod(self.image_shape))
        self._write_header(shape[0])
        self.start = self.file.tell()

    def __enter__(self) -> "ImageFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def put(self, rows: Indices, images: NDArray[np.uint8]) -> None:
        """Write images (n, C, H, W) to rows (n,); neighbours go in one write."""
        cuts = np.flatnonzero(np.diff(rows) != 1) + 1
        for row, run in zip(rows[np.r_[0, cuts]], np.split(images, cuts), strict=True):
            self._seek(int(row))
            self.file.write(run.tobytes())

    def close_gaps(self, keep: NDArray[np.bool_]) -> None:
        """Keep these rows (N,), moved together in their order, and set the header's N to their number."""
        kept = np.flatnonzero(keep)
        for target, row in enumerate(kept):
            if target != row:
                self._seek(int(row))
                image = self.file.read(self.image_bytes)
                self._seek(target)
                self.file.write(image)
        self.file.truncate(self.start + len(kept) * self.image_bytes)
        self._write_header(len(kept))

    def _seek(self, row: int) -> None:
        self.file.seek(self.start + row * self.image_bytes)

    def _write_header(self, count: int) -> None:
        """Its length does not depend on `count`: numpy pads the first axis to 21 digits."""
        self.file.seek(0)
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *self.image_shape)}
        npy.write_array_header_1_0(self.file, header)

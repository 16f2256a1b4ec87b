"""What every source of raw images gives, before a single one is decoded."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ganflow.errors import DataError, GanflowError

MAX_BYTES = 256 << 20
"""A larger file is not an image that anyone trains on; it is not read, nor inflated beyond this."""
MAX_PIXELS = 64 << 20
"""A larger image is taken for a decompression bomb."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
TEXT_SUFFIXES = (".txt", ".md", ".json", ".csv")
TEXT_NAMES = ("LICENSE", "README")

Indices = NDArray[np.int64]


class Rejected(Exception):
    """Why one image is left out: words that follow the file's name."""


Item = tuple[Indices, bytes | NDArray[np.uint8] | Rejected]
"""Images by index (n,), and either the file of the one image, or their pixels (n, H, W, C), or why there are none."""


@dataclass(frozen=True)
class Rejection:
    """A file of the raw set that is left out."""

    file: str
    reason: str


@dataclass(frozen=True)
class RawSet:
    """Images 0 to count - 1 in the raw set's order, and how to read them."""

    count: int
    name: Callable[[int], str]
    """The file's path in the set, or the array's name and the image's place in it."""
    labels: Indices | None
    """(count,), numbers in `classes`."""
    classes: list[str] | None
    held_out: NDArray[np.bool_] | None
    """(count,), the set's own test split; None if it has none."""
    rejected: list[Rejection]
    """Files that are known to be no images, before any is opened."""
    read: Callable[[Indices], Iterator[Item]]
    """Read these images (ascending) in whatever order is cheapest. Raises DataError when the set is damaged."""


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turn whatever a library raises about the bytes of `path` into a DataError."""
    try:
        yield
    except GanflowError:
        raise
    except Exception as error:  # at damaged bytes, the container libraries raise nearly everything there is
        problem = getattr(error, "strerror", None) or "its bytes are damaged or cut short"
        raise DataError(f"cannot read {path} as {kind} ({problem}); get it again, or run `dvc checkout`") from error


def ignored(name: str) -> bool:
    """Whether a file is hidden, or a text that comes with a set."""
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") and part != ".." for part in path.parts)
    return hidden or path.suffix.lower() in TEXT_SUFFIXES or path.name in TEXT_NAMES

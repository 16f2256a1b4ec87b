"""What every source of raw images gives, before a single one is decoded."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

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


Item = bytes | NDArray[np.uint8] | Rejected
"""The file of one image, or the pixels (n, H, W, C) of n, or why there is none."""


@dataclass(frozen=True)
class Sizes:
    """How much is taken at a time; the images do not depend on it, only the files that they lie in."""

    chunk_images: int = 256
    """No chunk has more."""
    chunk_bytes: int = 4 << 20
    """A chunk ends when it has as many."""
    file_bytes: int = 64 << 20
    """A larger set is more than one file."""


SIZES = Sizes()


@dataclass(frozen=True)
class Rejection:
    """A file of the raw set that is left out."""

    file: str
    reason: str


class Chunk(Protocol):
    """Some images of a set, read and decoded by one process; it is pickled on its way there."""

    @property
    def index(self) -> Indices:
        """(n,) in the set."""

    def read(self) -> Iterator[Item]:
        """The images in the order of `index`. Raises DataError when the set is damaged."""


@dataclass(frozen=True)
class Loaded:
    """A chunk that is read already, where the container can be read from front to back alone."""

    index: Indices
    items: list[Item]

    def read(self) -> Iterator[Item]:
        """The items."""
        return iter(self.items)


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
    chunks: Callable[[Indices, Sizes], Iterator[Chunk]]
    """These images (ascending) in chunks, in whatever order is cheapest; equal arguments give equal chunks.
    Raises DataError when the set is damaged."""
    loose: bool = False
    """Whether each image is a file of the raw folder: its md5 is taken while its bytes are at hand."""


def gather(items: Iterable[tuple[int, bytes | Rejected]], sizes: Sizes) -> Iterator[Loaded]:
    """Chunks of items that come one by one with their index; no more is held than one chunk."""
    index: list[int] = []
    held: list[Item] = []
    size = 0
    for number, item in items:
        index.append(number)
        held.append(item)
        size += len(item) if isinstance(item, bytes) else 0
        if len(held) == sizes.chunk_images or size >= sizes.chunk_bytes:
            yield Loaded(np.array(index), held)
            index, held, size = [], [], 0
    if held:
        yield Loaded(np.array(index), held)


def cut(weights: NDArray[np.int64], sizes: Sizes) -> Iterator[slice]:
    """Neighbours of these sizes in bytes (n,) together in chunks."""
    first = 0
    while first < len(weights):
        total = np.cumsum(weights[first : first + sizes.chunk_images])
        last = first + min(int(np.searchsorted(total, sizes.chunk_bytes)) + 1, len(total))
        yield slice(first, last)
        first = last


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
    parts = name.split("/")
    if "." in name and any(part.startswith(".") and part not in (".", "..") for part in parts):
        return True
    return name.lower().endswith(TEXT_SUFFIXES) or parts[-1] in TEXT_NAMES

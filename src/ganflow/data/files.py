"""Raw sets that are image files in a folder or an archive: their names give order, split and class."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from stat import S_ISREG

import numpy as np

from ganflow.data.raw import (
    IMAGE_SUFFIXES,
    MAX_BYTES,
    Chunk,
    Indices,
    Item,
    RawSet,
    Rejected,
    Rejection,
    Sizes,
    cut,
    ignored,
)

SPLITS = {"train", "test", "val"}


@dataclass(frozen=True)
class Listing:
    """The image files of a container, in its own order, and how to read them."""

    names: list[str]
    rejected: list[Rejection]
    chunks: Callable[[Indices, Indices, Sizes], Iterator[Chunk]]
    """Files by their numbers here (ascending), and the indices that they have in the set."""


@dataclass(frozen=True)
class Files:
    """A chunk of a folder."""

    index: Indices
    folder: Path
    names: list[str]

    def read(self) -> Iterator[Item]:
        """The files' bytes."""
        for name in self.names:
            try:
                with open(f"{self.folder}/{name}", "rb", buffering=0) as file:  # noqa: PTH123 (a Path costs as much as the read)
                    yield file.read()
            except OSError as error:
                yield Rejected(f"cannot be read ({error.strerror})")


def open_folder(folder: Path) -> RawSet:
    """The set in a folder of PNG, JPEG and WebP files."""
    names, lengths, rejected = [], [], []
    for name in sorted(walk(folder)):
        if ignored(name):
            continue
        try:
            found = os.stat(f"{folder}/{name}")  # noqa: PTH116 (as above)
            check_file(name, "" if S_ISREG(found.st_mode) else "is not a regular file", found.st_size)
            names.append(name)
            lengths.append(found.st_size)
        except OSError as error:
            rejected.append(Rejection(name, f"cannot be read ({error.strerror})"))
        except Rejected as reason:
            rejected.append(Rejection(name, str(reason)))
    weights = np.array(lengths, np.int64)

    def chunks(numbers: Indices, index: Indices, sizes: Sizes) -> Iterator[Chunk]:
        for part in cut(weights[numbers], sizes):
            yield Files(index[part], folder, [names[number] for number in numbers[part].tolist()])

    return replace(arrange(Listing(names, rejected, chunks)), loose=True)


def walk(folder: Path) -> Iterator[str]:
    """Names below a folder of all that is no folder, links to folders among it."""
    for place, folders, files in os.walk(folder):
        below = "" if place == str(folder) else os.path.relpath(place, folder) + "/"
        links = [name for name in folders if os.path.islink(f"{place}/{name}")]  # noqa: PTH114 (as above)
        for name in (*files, *links):
            yield below + name


def check_file(name: str, problem: str, size: int) -> None:
    """Raise Rejected for the `problem`, for a name that is no image's, and for a `size` in bytes above MAX_BYTES."""
    if problem:
        raise Rejected(problem)
    if not name.lower().endswith(IMAGE_SUFFIXES):
        raise Rejected(f"is not {', '.join(IMAGE_SUFFIXES)}")
    if size > MAX_BYTES:
        raise Rejected(f"is {size} bytes, above {MAX_BYTES}")


def unsafe(name: str) -> str:
    """Why an archive's member cannot have this name; empty if it can."""
    path = PureWindowsPath(name)  # knows both kinds of slashes
    if path.anchor:
        return "has an absolute name"
    return "climbs out of the archive with .." if ".." in path.parts else ""


def arrange(listing: Listing) -> RawSet:
    """Sort the files by name, and find splits and classes in the names of their folders.

    A folder that holds every file says nothing and is passed over. train/ beside test/ or val/ are the set's own
    splits; the folder below is the class, if there are any.
    """
    skip = _common_folders(listing.names)
    splits = {path[skip] for path in map(_parts, listing.names) if len(path) > skip + 1}
    own = "train" in splits and len(splits) > 1 and splits <= SPLITS
    below = skip + own
    folders = [path[below] if len(path) > below + 1 else None for path in map(_parts, listing.names)]
    classes = sorted({name for name in folders if name is not None})
    homeless = {
        n for n, folder in enumerate(folders) if len(_parts(listing.names[n])) <= below or (classes and folder is None)
    }
    order = np.array(
        sorted((n for n in range(len(folders)) if n not in homeless), key=listing.names.__getitem__), np.int64
    )
    number = {name: n for n, name in enumerate(classes)}
    listing.rejected.extend(Rejection(listing.names[n], "lies in no class or split folder") for n in sorted(homeless))
    return RawSet(
        count=len(order),
        name=lambda index: listing.names[order[index]],
        labels=np.array([number[folders[n] or ""] for n in order.tolist()], np.int64) if classes else None,
        classes=classes or None,
        held_out=np.array([_parts(listing.names[n])[skip] != "train" for n in order.tolist()]) if own else None,
        rejected=listing.rejected,
        chunks=lambda wanted, sizes: _in_listing_order(listing, order, wanted, sizes),
    )


def _parts(name: str) -> list[str]:
    return name.split("/")


def _common_folders(names: list[str]) -> int:
    """How many folders all the names begin with; a file's own name is none."""
    if not names:
        return 0
    first, last = _parts(min(names))[:-1], _parts(max(names))[:-1]  # all others lie between
    return next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def _in_listing_order(listing: Listing, order: Indices, wanted: Indices, sizes: Sizes) -> Iterator[Chunk]:
    """Read in the container's order, which is the cheap one, and number the images as the set does."""
    numbers = order[wanted]
    cheap = np.argsort(numbers, kind="stable")
    return listing.chunks(numbers[cheap], wanted[cheap], sizes)

"""Raw sets that are image files in a folder or an archive: their names give order, split and class."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

import numpy as np

from ganflow.data.raw import IMAGE_SUFFIXES, MAX_BYTES, Indices, Item, RawSet, Rejected, Rejection, ignored

SPLITS = {"train", "test", "val"}


@dataclass(frozen=True)
class Listing:
    """The image files of a container, in its own order, and how to read them."""

    names: list[str]
    rejected: list[Rejection]
    read: Callable[[list[int]], Iterator[tuple[int, bytes | Rejected]]]
    """Read the files with these numbers (ascending) in the container's order."""


def open_folder(folder: Path) -> RawSet:
    """The set in a folder of PNG, JPEG and WebP files."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    names, rejected = [], []
    for name, path in sorted(paths.items()):
        if ignored(name) or (path.is_dir() and not path.is_symlink()):
            continue
        try:
            check_file(name, "" if path.is_file() else "is not a regular file", path.stat().st_size)
            names.append(name)
        except OSError as error:
            rejected.append(Rejection(name, f"cannot be read ({error.strerror})"))
        except Rejected as reason:
            rejected.append(Rejection(name, str(reason)))
    return arrange(Listing(names, rejected, lambda numbers: _read(folder, names, numbers)))


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
    parts = _without_common_folder({name: tuple(name.split("/")) for name in listing.names})
    splits = {path[0] for path in parts.values() if len(path) > 1}
    own = "train" in splits and len(splits) > 1 and splits <= SPLITS
    below = {name: path[1:] if own else path for name, path in parts.items()}
    classes = sorted({path[0] for path in below.values() if len(path) > 1})
    homeless = {name for name, path in below.items() if len(path) < (2 if classes else 1)}
    order = sorted((n for n, name in enumerate(listing.names) if name not in homeless), key=listing.names.__getitem__)
    names = [listing.names[place] for place in order]
    number = {name: n for n, name in enumerate(classes)}
    listing.rejected.extend(Rejection(name, "lies in no class or split folder") for name in homeless)
    return RawSet(
        count=len(names),
        name=names.__getitem__,
        labels=np.array([number[below[name][0]] for name in names], np.int64) if classes else None,
        classes=classes or None,
        held_out=np.array([parts[name][0] != "train" for name in names]) if own else None,
        rejected=listing.rejected,
        read=lambda wanted: _in_set_order(listing, order, wanted),
    )


def _without_common_folder(parts: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    while parts and all(len(path) > 1 for path in parts.values()) and len({path[0] for path in parts.values()}) == 1:
        parts = {name: path[1:] for name, path in parts.items()}
    return parts


def _in_set_order(listing: Listing, order: list[int], wanted: Indices) -> Iterator[Item]:
    """Read in the container's order, which is the cheap one, and number the images as the set does."""
    index = {order[i]: i for i in wanted.tolist()}
    for number, data in listing.read(sorted(index)):
        yield np.array([index[number]]), data


def _read(folder: Path, names: list[str], numbers: list[int]) -> Iterator[tuple[int, bytes | Rejected]]:
    for number in numbers:
        try:
            yield number, (folder / names[number]).read_bytes()
        except OSError as error:
            yield number, Rejected(f"cannot be read ({error.strerror})")

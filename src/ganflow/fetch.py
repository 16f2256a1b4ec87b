"""Fetch a versioned set by its pin: no git, no DVC, only the remote's objects, which lie there by their md5.

Objects are kept in the cache, and a set there is made of hard links to them; steps and processes share both.
"""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, TypeAdapter, ValidationError

from ganflow import cache
from ganflow.artifacts import content_address, file_hash
from ganflow.errors import DataError, StoreError
from ganflow.objects import CONNECTIONS, Store, Told, open_store
from ganflow.pin import Pin
from ganflow.progress import Advance

DIRECTORY = ".dir"


def fetch(pin: Pin, advance: Advance = lambda done, total: None) -> Path:
    """The set of a pin: a file or a folder in the cache, as `dvc pull` gives it; it is only for reading.

    What is there already is taken if its md5 is still right. `advance` is told of bytes. Raises StoreError for what the
    remote lacks or refuses, and DataError for a listing that DVC does not write.
    """
    home = cache.home() / "sets" / pin.md5
    with _alone(home):
        place = home / PurePosixPath(pin.path).name
        if not (place.exists() and content_address(place) == pin.md5):
            store, told = open_store(pin.remote, pin.endpoint), _counter(pin, advance)
            is_folder = pin.md5.endswith(DIRECTORY)
            first = _object(store, pin.md5, _ignored if is_folder else told)
            _swap_in(_files(store, _listing(first, pin), told) if is_folder else {"": first}, place)
    return place


def listing(pin: Pin) -> dict[str, str]:
    """The md5 of each file of the set, by its path there; of a set that is one file, by its name.

    Raises StoreError and DataError as `fetch` does.
    """
    if not pin.md5.endswith(DIRECTORY):
        return {PurePosixPath(pin.path).name: pin.md5}
    return _listing(_object(open_store(pin.remote, pin.endpoint), pin.md5, _ignored), pin)


def require_pushed(pin: Pin) -> None:
    """Raise StoreError unless the remote has the pin's object; of a folder, DVC pushes the listing last."""
    if not open_store(pin.remote, pin.endpoint).exists(_key(pin.md5)):
        raise StoreError(
            f"{pin.path} ({pin.md5}) is not at {pin.remote} yet; run `dvc push {pin.path}.dvc`, after "
            f"`dvc pull --remote NAME {pin.path}.dvc` from where it is, if the cache here is empty"
        )


def _inside(path: str) -> str:
    if not path or "\0" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise ValueError("leads out of the set")
    return path


class _Entry(BaseModel):
    """A file in DVC's listing of a folder."""

    md5: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    relpath: Annotated[str, AfterValidator(_inside)]


def _listing(path: Path, pin: Pin) -> dict[str, str]:
    """md5 by path in the set, from the object that DVC keeps of a folder."""
    try:
        entries = TypeAdapter(list[_Entry]).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(
            f"the object {pin.md5} at {pin.remote} is no listing of DVC's: {first['msg']}, {first['input']!r:.80}; pin "
            "a set that `dvc push` put there"
        ) from error
    return {entry.relpath: entry.md5 for entry in entries}


def _files(store: Store, listing: dict[str, str], told: Told) -> dict[str, Path]:
    """Fetch every object of a folder, each once; returns where it lies, by the file's path in the set."""
    objects = sorted(set(listing.values()))
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        found = dict(zip(objects, pool.map(lambda md5: _object(store, md5, told), objects), strict=True))
    return {path: found[md5] for path, md5 in listing.items()}


def _object(store: Store, md5: str, told: Told) -> Path:
    """An object in the cache; fetched if it is not there, or damaged."""
    path, expected = cache.home() / "objects" / md5[:2] / md5[2:], md5.removesuffix(DIRECTORY)
    if path.exists() and file_hash(path, "md5") == expected:
        told(path.stat().st_size)
    else:
        store.get(_key(md5), path, expected, told)
    return path


def _key(md5: str) -> str:
    """Where DVC 3 puts an object in a remote."""
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def _swap_in(objects: dict[str, Path], place: Path) -> None:
    """Make the set at `place`, whole or not at all; "" is the set itself."""
    partial = place.with_name(".partial")
    for old in (partial, place):
        shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
    for path, kept in objects.items():
        (partial / path).parent.mkdir(parents=True, exist_ok=True)
        os.link(kept, partial / path)
    partial.rename(place)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Of all processes that fetch this set, one at a time; a killed one keeps nobody waiting."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _ignored(more: int) -> None:
    """The listing of a folder is not in the pin's size."""


def _counter(pin: Pin, advance: Advance) -> Callable[[int], None]:
    """Adds up bytes from many threads."""
    lock, done = Lock(), 0

    def told(more: int) -> None:
        nonlocal done
        with lock:
            done += more
            if more:
                advance(done, pin.size)

    return told

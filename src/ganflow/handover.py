"""A step's folder by way of an object store: sent whole, brought back checked."""

import tempfile
from pathlib import Path

from ganflow.artifacts import check_hash, file_hash, read_json, write_json
from ganflow.objects import Store

LISTING = "listing.json"
"""The sha256 of every file by its name; sent last, so that a folder without one is not there."""


def listing(folder: Path) -> dict[str, str]:
    """The sha256 of every file below the folder, by its relative name; hidden files are left out."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [path.relative_to(folder) for path in files]
    return {name.as_posix(): file_hash(folder / name) for name in names if not _hidden(name)}


def is_whole(store: Store, key: str) -> bool:
    """Whether a folder was sent under this key, to its end. Raises StoreError when the store cannot say."""
    return store.exists(f"{key}/{LISTING}")


def send(store: Store, folder: Path, key: str, files: dict[str, str]) -> None:
    """Send the files of `listing(folder)`, and the listing after them. Raises StoreError when the store refuses."""
    for name in files:
        store.put(folder / name, f"{key}/{name}")
    with tempfile.TemporaryDirectory() as place:  # the folder itself may be read-only
        write_json(made := Path(place) / LISTING, files)
        store.put(made, f"{key}/{LISTING}")


def bring(store: Store, key: str, folder: Path) -> None:
    """Bring a folder that was sent. Raises StoreError when it is not there, ArtifactError when a file is damaged."""
    with tempfile.TemporaryDirectory() as place:
        store.get(f"{key}/{LISTING}", made := Path(place) / LISTING)
        files = read_json(made)
    for name, sha256 in files.items():
        store.get(f"{key}/{name}", folder / name)
        check_hash(folder / name, sha256, "ganflow pipeline retry")


def _hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts)

"""Folders that took long to make, kept for the next time: by a key of all that they depend on.

They lie under `home()`, and may be removed at any time.
"""

import contextlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from ganflow.artifacts import file_hash, read_json, write_json
from ganflow.errors import ArtifactError

SUMS = "sha256.json"


def home() -> Path:
    """$GANFLOW_CACHE, or ganflow/ in $XDG_CACHE_HOME, or ~/.cache/ganflow."""
    if place := os.environ.get("GANFLOW_CACHE"):
        return Path(place)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ganflow"


def restore(key: str, folder: Path) -> bool:
    """Fill `folder` with what was kept under `key`, and say whether there was anything whole.

    Each file's sha256 is checked; an entry that is damaged is removed, and named on standard error.
    """
    entry = _entry(key)
    if not entry.exists():
        return False
    try:
        _check(entry)
    except ArtifactError as error:
        print(f"ganflow: {error}; it is made again", file=sys.stderr)
        shutil.rmtree(entry, ignore_errors=True)
        return False
    for name in read_json(entry / SUMS):
        shutil.copy(entry / name, folder / name)
    return True


def keep(key: str, folder: Path) -> None:
    """Keep a copy of the files of `folder` under `key`, whole or not at all; the first of two writers wins."""
    entry = _entry(key)
    # A container may have no home that can be written to, and two steps may end at once: neither needs the cache.
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=entry.parent, prefix=".partial") as temporary:
            partial = Path(temporary) / "entry"
            partial.mkdir()
            files = sorted(path for path in folder.iterdir() if path.is_file())
            for path in files:
                shutil.copy(path, partial / path.name)
            write_json(partial / SUMS, {path.name: file_hash(partial / path.name) for path in files})
            partial.rename(entry)


def _check(entry: Path) -> None:
    for name, expected in read_json(entry / SUMS).items():
        path = entry / name
        if not path.is_file() or file_hash(path) != expected:
            raise ArtifactError(f"the cached file {path} is damaged")


def _entry(key: str) -> Path:
    return home() / "reference" / key

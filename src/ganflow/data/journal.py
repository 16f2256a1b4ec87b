"""What a `prepare` has done so far, on disk: an interrupted one goes on there."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ganflow.data.files import walk

SECONDS = 1.0


class Journal:
    """One JSON array a line. A line is written when what it says is on the disk."""

    def __init__(self, path: Path, sync: Callable[[], None]) -> None:
        self.path, self.sync = path, sync
        self.lines: list[str] = []
        self.last = time.monotonic()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *error: object) -> None:
        self.flush()

    def add(self, *values: Any) -> None:
        """Note something that is done; it is written within a second or so."""
        self.lines.append(json.dumps(values))
        if time.monotonic() > self.last + SECONDS:
            self.flush()

    def flush(self) -> None:
        """Have the disk keep what was done, then the lines that say so."""
        if self.lines:
            self.sync()
            with self.path.open("a") as file:
                file.writelines(f"{line}\n" for line in self.lines)
                file.flush()
                os.fdatasync(file.fileno())
            self.lines.clear()
        self.last = time.monotonic()


def read_journal(path: Path) -> list[list[Any]]:
    """The lines; one that was cut short by a kill is removed."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    whole = lines if not lines or lines[-1].endswith(b"\n") else lines[:-1]
    os.truncate(path, sum(map(len, whole)))
    return [json.loads(line) for line in whole]


def stamp(raw: Path, *more: str) -> str:
    """A hash of the names, sizes and times of all raw files and of what else decides the result; nothing is read."""
    digest = hashlib.sha256(repr(more).encode())
    for name in sorted(walk(raw)) if raw.is_dir() else [""]:
        found = os.lstat(f"{raw}/{name}" if name else raw)
        digest.update(repr((name, found.st_size, found.st_mtime_ns)).encode())
    return digest.hexdigest()

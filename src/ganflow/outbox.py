"""What is to be told to the tracking server, kept on disk until it was: a queue that survives its process.

One record is one JSON line. Files that a record names lie beside it, as hard links where the disk allows.
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ganflow.artifacts import read_json, write_json, write_text

Record = dict[str, Any]


class Outbox:
    """The queue of one run, in a folder of its own. What is put in twice (a resumed training) is kept once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file, self.run_file = folder / "queue.jsonl", folder / "run.json"
        self._run_id: str | None = read_json(self.run_file)["run_id"] if self.run_file.exists() else None
        self.records: list[Record] = list(_read(self.file))
        self.known = {key for record in self.records for key in _keys(record)}

    @classmethod
    def new(cls, parent: Path, token: str | None = None) -> "Outbox":
        """An empty one, with this name or one of its own."""
        return cls(parent / (token or uuid.uuid4().hex))

    @property
    def token(self) -> str:
        """Its name, which no other has."""
        return self.folder.name

    @property
    def run_id(self) -> str | None:
        """The run on the server, once there is one; known still when the outbox was removed."""
        return self._run_id

    @run_id.setter
    def run_id(self, run_id: str) -> None:
        write_json(self.run_file, {"run_id": run_id})
        self._run_id = run_id

    def put(self, record: Record) -> None:
        """Add a record, on disk when this returns; metrics, grids and models that are in already are left out."""
        if record["kind"] == "metrics":
            fresh = {key: value for key, value in record["values"].items() if (key, record["images"]) not in self.known}
            record = record | {"values": fresh}
        keys = _keys(record)
        if keys <= self.known and record["kind"] in ("metrics", "grid", "model"):
            return
        with self.file.open("a") as file:
            file.write(json.dumps(record) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.known |= keys
        self.records.append(record)

    def keep(self, path: Path) -> str:
        """Keep a file for a record to name; returns its name here."""
        target = self.folder / path.name
        if not target.exists():
            partial = self.folder / f".{path.name}.partial"
            partial.unlink(missing_ok=True)
            try:
                os.link(path, partial)
            except OSError:  # another disk, or one without links
                shutil.copyfile(path, partial)
            partial.replace(target)
        return path.name

    def remove(self) -> None:
        """Forget everything: it was delivered."""
        shutil.rmtree(self.folder)


def waiting(parent: Path) -> list[Outbox]:
    """The outboxes below a folder that something is left in, the oldest first."""
    files = sorted(parent.glob("*/queue.jsonl"), key=lambda path: path.stat().st_mtime)
    return [Outbox(path.parent) for path in files]


def _read(path: Path) -> Iterator[Record]:
    """The records; a torn last line, of a process that was killed, is cut off."""
    if not path.exists():
        return
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_text(path, whole)
    for line in whole.splitlines():
        yield json.loads(line)


def _keys(record: Record) -> set[tuple[str, int]]:
    if record["kind"] == "metrics":
        return {(key, record["images"]) for key in record["values"]}
    return {(f"/{record['kind']}", record["images"])} if record["kind"] in ("grid", "model") else set()

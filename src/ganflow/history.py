"""history.jsonl: what was measured while training, one JSON object a line, each at a number of images seen."""

import csv
import io
import json
from pathlib import Path
from typing import Any

from ganflow.artifacts import file_hash, fingerprint, write_text

SOURCES = ("augment.py", "losses.py", "metrics", "networks", "penalties.py", "randomness.py", "sampling.py", "training")
"""The code that makes a training's numbers."""


def run_identity(parameters: dict[str, Any], data: dict[str, Any]) -> str:
    """What a checkpoint must share with a training that goes on from it: parameters, data, and code."""
    package = Path(__file__).parent
    places = [package / source for source in SOURCES]
    files = [file for place in places for file in (sorted(place.rglob("*.py")) if place.is_dir() else [place])]
    return fingerprint([parameters, data, {str(file.relative_to(package)): file_hash(file) for file in files}])


class History:
    """Appends records; a resumed run forgets what lies beyond its checkpoint, a torn last line too."""

    def __init__(self, path: Path, images: int) -> None:
        self.path = path
        kept = [line for line in _lines(path) if json.loads(line)["images"] <= images] if images else []
        write_text(path, "".join(kept))

    def append(self, record: dict[str, float]) -> None:
        """Add one record."""
        with self.path.open("a") as file:
            file.write(json.dumps(record, sort_keys=True) + "\n")


def read_history(path: Path) -> list[dict[str, float]]:
    """Every record, in order."""
    return [json.loads(line) for line in _lines(path)]


def write_csv(history: Path, path: Path) -> None:
    """The same records as a table, which is what `dvc plots` reads."""
    records = read_history(history)
    table = io.StringIO()
    writer = csv.DictWriter(table, ["images", *sorted(set().union(*records) - {"images"})], lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    write_text(path, table.getvalue())


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]

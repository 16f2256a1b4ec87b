"""Training states on disk: atomic, checked by hash, the last two kept.

`NNNNNNNNN.safetensors` holds the tensors of the state after N images; `NNNNNNNNN.json`, written after it, makes it
valid: the file's sha256 and the identity of the run (data and parameters) that it belongs to.
"""

import re
from pathlib import Path

from safetensors.torch import load_file, save_file

from ganflow.artifacts import atomic, file_hash, read_json, write_json
from ganflow.errors import ArtifactError
from ganflow.training.state import State

KEEP = 2
FINAL = "final.safetensors"


def save(folder: Path, state: State) -> Path:
    """Write the state, then its card; then remove all but the last KEEP. Returns the tensors' path."""
    path = folder / f"{state.images:09d}.safetensors"
    with atomic(path) as partial:
        save_file(state.tensors(), partial)
    write_json(
        path.with_suffix(".json"), {"images": state.images, "sha256": file_hash(path), "identity": state.identity}
    )
    for old in _cards(folder)[:-KEEP]:
        remove(old)
    return path


def resume(folder: Path, state: State) -> bool:
    """Load the newest undamaged checkpoint of this very run into `state`; False when there is none."""
    for card in reversed(_cards(folder)):
        try:
            values = read_json(card)
            tensors = card.with_suffix(".safetensors")
            if values["identity"] == state.identity and file_hash(tensors) == values["sha256"]:
                state.load(load_file(tensors), values["images"])
                return True
        except (ArtifactError, OSError, KeyError):
            continue  # a checkpoint that was damaged from outside; the one before it will do
    return False


def conclude(folder: Path) -> None:
    """Leave only the newest state, under a name that no run resumes from: what is forced to run again starts anew."""
    newest = last(folder)
    if newest:
        newest.replace(folder / FINAL)
    for card in _cards(folder):
        remove(card)


def last(folder: Path) -> Path | None:
    """The newest checkpoint's tensors, if there is one."""
    cards = _cards(folder)
    return cards[-1].with_suffix(".safetensors") if cards else None


def remove(card: Path) -> None:
    """Remove a checkpoint, its card first."""
    card.unlink()
    card.with_suffix(".safetensors").unlink(missing_ok=True)


def _cards(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"\d+\.json", path.name))

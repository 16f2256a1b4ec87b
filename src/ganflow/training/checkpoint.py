"""Training states on disk: atomic, checked by hash; the last two are kept, and the best.

`NNNNNNNNN.safetensors` holds the tensors of the state after N images; `NNNNNNNNN.json`, written after it, makes it
valid: the file's sha256, the identity of the run (data and parameters) that it belongs to, and its online FID.
"""

import re
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from ganflow.artifacts import atomic, file_hash, read_json, write_json
from ganflow.errors import ArtifactError
from ganflow.training.state import State

KEEP = 2
FINAL = "final.safetensors"


def save(folder: Path, state: State, score: float | None) -> Path:
    """Write the state, then its card; then remove all but the last KEEP and the best. Returns the tensors' path.

    `score` is its online FID, None where it was not measured. A disk that is full leaves the states before it whole.
    """
    path = folder / f"{state.images:09d}.safetensors"
    with atomic(path) as partial:
        save_file(state.tensors(), partial)
    card = {"images": state.images, "sha256": file_hash(path), "identity": state.identity, "score": score}
    write_json(path.with_suffix(".json"), card)
    leader = best(folder)
    for old in _cards(folder)[:-KEEP]:
        if leader is None or old != leader.with_suffix(".json"):
            remove(old)
    return path


def resume(folder: Path, state: State) -> bool:
    """Load the newest undamaged checkpoint of this very run into `state`, and remove the others that are not whole.

    False, and nothing is touched, when there is none.
    """
    whole = [card for card in _cards(folder) if _read(card, state.identity) is not None]
    if not whole:
        return False
    state.load(load(whole[-1].with_suffix(".safetensors")), int(whole[-1].stem))
    for card in set(_cards(folder)) - set(whole):
        remove(card)
    return True


def best(folder: Path) -> Path | None:
    """The tensors of the state with the lowest online FID, the earliest of equals; None where none was measured."""
    scored = [(values["score"], card) for card in _cards(folder) if (values := read_json(card))["score"] is not None]
    return min(scored)[1].with_suffix(".safetensors") if scored else None


def load(tensors: Path) -> dict[str, Tensor]:
    """A state's tensors. Raises ArtifactError when they are not those that its card names."""
    card = read_json(tensors.with_suffix(".json"))
    if file_hash(tensors) != card["sha256"]:
        raise ArtifactError(f"{tensors} is damaged: its sha256 is not the card's; remove it and its card")
    return load_file(tensors)


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


def _read(card: Path, identity: str) -> dict[str, Tensor] | None:
    """The tensors of a card, unless they are damaged or of another run."""
    try:
        return load(card.with_suffix(".safetensors")) if read_json(card)["identity"] == identity else None
    except (ArtifactError, OSError, KeyError):
        return None


def _cards(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"\d+\.json", path.name))

"""A model's folder: made ready, filled while the training goes on, and finished."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from ganflow.artifacts import Model, atomic, file_hash, fingerprint, read_json, write_json, write_text
from ganflow.config import Train
from ganflow.history import write_csv
from ganflow.images import grid, write_png
from ganflow.sampling import CHUNK, sample
from ganflow.training import checkpoint
from ganflow.training.player import below
from ganflow.training.state import State, architecture


def make_room(out: Model) -> None:
    """Make `out` ready for a new run; unfinished states are moved aside."""
    if checkpoint.last(out.checkpoints):
        old = out.checkpoints.with_name("checkpoints.old")
        shutil.rmtree(old, ignore_errors=True)
        out.checkpoints.rename(old)
        print(f"train: starting anew; the unfinished states of another run are kept in {old}", file=sys.stderr)
    shutil.rmtree(out.checkpoints, ignore_errors=True)
    write_json(out.mark, {"made_by": out.MAKER})


def draw(state: State, settings: Train, out: Model) -> Path:
    """A PNG grid of the averaged generator's first images; the same latents every time."""
    path = out.samples_so_far / f"{state.images:09d}.png"
    chunk = next(sample(state.average, settings.latent_dim, settings.seed, CHUNK))
    write_png(path, grid(chunk.numpy()), scale=2 if chunk.shape[2] < 64 else 1)
    return path


@contextmanager
def exported(state: State) -> Iterator[Path]:
    """The averaged generator of this moment, as a file that is there for as long as the context."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"generator-{state.images:09d}.safetensors"
        save_file(below(state.tensors(), "average"), path)
        yield path


def finish(state: State, data: dict[str, Any], settings: Train, out: Model) -> dict[str, Any]:
    """Write the averaged generator of the best state, the plots' table, and the card, which is returned.

    Without scores the best is the last.
    """
    kept = checkpoint.best(out.checkpoints) or checkpoint.last(out.checkpoints)
    assert kept is not None, "the last step saves"
    average = below(checkpoint.load(kept), "average")
    with atomic(out.generator) as partial:
        save_file(average, partial)
    write_text(out.history, out.history_so_far.read_text())
    write_csv(out.history, out.curves)
    shutil.rmtree(out.samples, ignore_errors=True)
    shutil.copytree(out.samples_so_far, out.samples)
    parameters = settings.model_dump(mode="json")
    return out.write_card(
        {
            "format": 1,
            "architecture": architecture(settings, data),
            "generator_sha256": file_hash(out.generator),
            "images_seen": read_json(kept.with_suffix(".json"))["images"],
            "images_trained": state.images,
            "online_fid": read_json(kept.with_suffix(".json"))["score"],
            "parameters": parameters,
            "parameters_sha256": fingerprint(parameters),
            "data": data,
        }
    )


def conclude(out: Model) -> None:
    """Keep the last state as final.safetensors, and nothing to resume from. Call when all is recorded."""
    checkpoint.conclude(out.checkpoints)
    out.mlflow_run.unlink(missing_ok=True)
    out.history_so_far.unlink(missing_ok=True)
    shutil.rmtree(out.samples_so_far, ignore_errors=True)

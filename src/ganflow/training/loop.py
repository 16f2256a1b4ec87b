"""The training: read `train` from top to bottom and you have read all of it."""

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file

from ganflow.artifacts import Model, atomic, file_hash, fingerprint, write_json, write_text
from ganflow.config import Train
from ganflow.device import best_device
from ganflow.errors import Interrupted, TrainingError
from ganflow.history import History, run_identity, write_csv
from ganflow.images import Images, grid, write_png
from ganflow.sampling import CHUNK, sample
from ganflow.training import checkpoint
from ganflow.training.batches import batch, to_float
from ganflow.training.state import METRICS, State, architecture, new_state
from ganflow.training.step import play


class Log(Protocol):
    """Who is told, besides the files: MLflow, or nobody."""

    def metrics(self, images: int, values: dict[str, float]) -> None:
        """Values measured at `images` seen."""

    def grid(self, images: int, path: Path) -> None:
        """A PNG of samples, made at `images` seen."""


class NoLog:
    """Tells nobody."""

    def metrics(self, images: int, values: dict[str, float]) -> None:
        """Nothing."""

    def grid(self, images: int, path: Path) -> None:
        """Nothing."""


def begin(data: dict[str, Any], settings: Train, out: Model, resume: bool) -> State:
    """The state to train from: with `resume`, the newest checkpoint of this very run in `out`, else a new one.

    `data` has the resolution and channels of the images, and is part of the run's identity. Unfinished states of
    another run are moved to checkpoints.old, and said. Raises ArtifactError when `out` is not ours.
    """
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    out.require_ours()
    identity = run_identity(settings.model_dump(mode="json"), data)
    state = new_state(settings, data["resolution"], data["channels"], best_device(), identity)
    if resume and out.history_so_far.exists() and checkpoint.resume(out.checkpoints, state):
        print(f"train: going on after {state.images:,} images", file=sys.stderr)
    else:
        make_room(out)
    out.card.unlink(missing_ok=True)
    return state


def train(
    state: State,
    images: Images,
    data: dict[str, Any],
    settings: Train,
    out: Model,
    *,
    log: Log | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train `state`, of `begin`, on uint8 images (N, C, R, R) and fill `out`; returns the card that is written last.

    `stop` is asked after every step. Checkpoints stay until `conclude(out)`: who is stopped after the training, but
    before its caller is done with it, resumes at its end.

    Raises TrainingError when a loss or weight is not finite, and Interrupted after the checkpoint that `stop` asks for.
    """
    log = log or NoLog()
    history = History(out.history_so_far, state.images)
    clock = Clock(state.images)
    while state.images < settings.total_images:
        before = state.images
        real = batch(images, settings.seed, before, settings.batch_size)
        play(state, to_float(real, state.sums.device), settings)
        advance(state.images, settings.total_images)
        last = state.images >= settings.total_images
        if last or crossed(before, state.images, settings.log_every_images):
            values = measure(state, out)
            history.append({"images": state.images, **values})
            log.metrics(state.images, values | {"images_per_second": clock.rate(state.images)})
        if last or crossed(before, state.images, settings.sample_every_images):
            log.grid(state.images, draw(state, settings, out))
        stopping = stop() and not last
        if stopping or crossed(before, state.images, settings.checkpoint_every_images):
            require_finite(state, out)
            checkpoint.save(out.checkpoints, state)
        if stopping:
            raise Interrupted(f"stopped after {state.images:,} images, all saved; `--resume` goes on from there")
    return finish(state, data, settings, out)


def conclude(out: Model) -> None:
    """Keep the last state as final.safetensors, and nothing to resume from. Call when all is recorded."""
    checkpoint.conclude(out.checkpoints)
    out.mlflow_run.unlink(missing_ok=True)
    out.history_so_far.unlink(missing_ok=True)
    shutil.rmtree(out.samples_so_far, ignore_errors=True)


def make_room(out: Model) -> None:
    """Make `out` ready for a new run; unfinished states are moved aside."""
    if checkpoint.last(out.checkpoints):
        old = out.checkpoints.with_name("checkpoints.old")
        shutil.rmtree(old, ignore_errors=True)
        out.checkpoints.rename(old)
        print(f"train: starting anew; the unfinished states of another run are kept in {old}", file=sys.stderr)
    shutil.rmtree(out.checkpoints, ignore_errors=True)
    write_json(out.mark, {"made_by": out.MAKER})


def crossed(before: int, after: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, after]."""
    return after // every > before // every


def measure(state: State, out: Model) -> dict[str, float]:
    """Mean of each metric since the last time; the one place where the loop waits for the device."""
    *sums, steps = state.sums.tolist()
    state.sums.zero_()
    values = {name: total / steps for name, total in zip(METRICS, sums, strict=True)}
    if not all(abs(value) < float("inf") for value in values.values()):
        diverged(state, out)
    return values


def require_finite(state: State, out: Model) -> None:
    """Raise TrainingError when a weight is NaN or infinite: such a state is never saved."""
    if not state.finite():
        diverged(state, out)


def diverged(state: State, out: Model) -> None:
    """Raise the TrainingError that names the place and the last good checkpoint."""
    path = checkpoint.last(out.checkpoints)
    kept = f"the last good state is {path}" if path else "no checkpoint was written yet"
    raise TrainingError(
        f"the training diverged to NaN or infinity by image {state.images:,}; {kept}; lower train.learning_rate"
    )


def draw(state: State, settings: Train, out: Model) -> Path:
    """A PNG grid of the averaged generator's first images; the same latents every time."""
    path = out.samples_so_far / f"{state.images:09d}.png"
    chunk = next(sample(state.average, settings.latent_dim, settings.seed, CHUNK))
    write_png(path, grid(chunk.numpy()), scale=2 if chunk.shape[2] < 64 else 1)
    return path


def finish(state: State, data: dict[str, Any], settings: Train, out: Model) -> dict[str, Any]:
    """Write the last state, the averaged generator, the plots' table, and the card."""
    require_finite(state, out)
    checkpoint.save(out.checkpoints, state)
    with atomic(out.generator) as partial:
        save_file({key: value.cpu().contiguous() for key, value in state.average.state_dict().items()}, partial)
    write_text(out.history, out.history_so_far.read_text())
    write_csv(out.history, out.curves)
    shutil.rmtree(out.samples, ignore_errors=True)
    shutil.copytree(out.samples_so_far, out.samples)
    parameters = settings.model_dump(mode="json")
    return out.write_card(
        {
            "format": 1,
            "architecture": architecture(settings, data["resolution"], data["channels"]),
            "generator_sha256": file_hash(out.generator),
            "images_seen": state.images,
            "parameters": parameters,
            "parameters_sha256": fingerprint(parameters),
            "data": data,
        }
    )


class Clock:
    """Images a second since the last time it was asked."""

    def __init__(self, images: int) -> None:
        self.then, self.images = time.monotonic(), images

    def rate(self, images: int) -> float:
        """Images a second between the last call and this one."""
        now = time.monotonic()
        rate = (images - self.images) / (now - self.then)
        self.then, self.images = now, images
        return rate

"""The training: read `train` from top to bottom and you have read all of it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file

from ganflow.artifacts import Model, atomic, file_hash, fingerprint, require_ours, write_json
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


def train(
    images: Images,
    data: dict[str, Any],
    settings: Train,
    out: Model,
    *,
    resume: bool = False,
    log: Log | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train on uint8 images (N, C, R, R) and fill `out`; returns the card that is written last.

    Checkpoints stay until `conclude(out)`: who is stopped after the training, but before its caller is done with it,
    resumes at its end.

    `data` is recorded in the card and, with the settings, is the identity of the run: `resume` goes on from the
    newest checkpoint with the same one. `stop` is asked after every step.

    Raises TrainingError when a loss or weight is not finite, and Interrupted after the checkpoint that `stop` asks for.
    """
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    device = best_device()
    log = log or NoLog()
    identity = run_identity(settings.model_dump(mode="json"), data)
    state = new_state(settings, data["resolution"], data["channels"], device)
    begin(out, state, identity, resume)
    history = History(out.history, state.images)
    clock = Clock(state.images)
    while state.images < settings.total_images:
        before = state.images
        real = batch(images, settings.seed, before, settings.batch_size)
        play(state, to_float(real, device), settings)
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
            checkpoint.save(out.checkpoints, state, identity)
        if stopping:
            raise Interrupted(f"stopped after {state.images:,} images, all saved; `--resume` goes on from there")
    return finish(state, data, settings, out, identity)


def conclude(out: Model) -> None:
    """Keep the last state as final.safetensors, and nothing to resume from. Call when all is recorded."""
    checkpoint.conclude(out.checkpoints)


def begin(out: Model, state: State, identity: str, resume: bool) -> None:
    """Go on from a checkpoint into `state`, or make room for a new run."""
    require_ours(Model, out.path, out.checkpoints.name)
    out.card.unlink(missing_ok=True)
    if resume and checkpoint.resume(out.checkpoints, state, identity):
        return
    checkpoint.clear(out.checkpoints)
    out.checkpoints.mkdir(parents=True, exist_ok=True)
    for path in out.samples.glob("*.png"):
        path.unlink()


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
    path = out.samples / f"{state.images:09d}.png"
    chunk = next(sample(state.average, settings.latent_dim, settings.seed, CHUNK))
    write_png(path, grid(chunk.numpy()), scale=2 if chunk.shape[2] < 64 else 1)
    return path


def finish(state: State, data: dict[str, Any], settings: Train, out: Model, identity: str) -> dict[str, Any]:
    """Write the last state, the averaged generator, the plots' table, and the card."""
    require_finite(state, out)
    checkpoint.save(out.checkpoints, state, identity)
    with atomic(out.generator) as partial:
        save_file({key: value.cpu().contiguous() for key, value in state.average.state_dict().items()}, partial)
    card = {
        "format": 1,
        "architecture": architecture(settings, data["resolution"], data["channels"]),
        "generator_sha256": file_hash(out.generator),
        "images_seen": state.images,
        "parameters": settings.model_dump(mode="json"),
        "parameters_sha256": fingerprint(settings.model_dump(mode="json")),
        "data": data,
    }
    write_csv(out.history, out.curves)
    write_json(out.card, card)
    return card


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

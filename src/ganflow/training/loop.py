"""The training: read `train` from top to bottom and you have read all of it."""

import sys
from collections.abc import Callable
from contextlib import closing
from typing import Any

from ganflow.artifacts import Model
from ganflow.config import Train
from ganflow.device import best_device, exact_algorithms, keep_freed_memory
from ganflow.errors import Interrupted
from ganflow.history import run_identity
from ganflow.parallel import World
from ganflow.training import checkpoint
from ganflow.training.batches import Batches
from ganflow.training.capture import make_step
from ganflow.training.files import finish, make_room
from ganflow.training.leader import Due, Leader
from ganflow.training.log import Log, NoLog
from ganflow.training.mirror import Mirror
from ganflow.training.state import State, new_state
from ganflow.training.watch import Judge, Sets


def begin(
    data: dict[str, Any],
    sets: Sets,
    settings: Train,
    out: Model,
    resume: bool,
    world: World | None = None,
    reference: str | None = None,
    mirror: Mirror | None = None,
) -> State:
    """The state to train from: with `resume`, the newest checkpoint of this very run in `out`, else a new one.

    `data` has the resolution, channels and classes of the images; it and `reference`, the hash of what the states are
    scored against, are part of the run's identity. Unfinished states of another run are moved to checkpoints.old, and
    said. With a `mirror`, checkpoints that left an earlier pod are brought back first. Raises ArtifactError when `out`
    is not ours, ConfigError when the settings ask for what the data or the processes do not have, and StoreError when
    the mirror cannot be read.
    """
    world = world or World()
    exact_algorithms()
    keep_freed_memory()
    world.require_slices(settings.batch_size)
    # What happens on an alarm changes no number before it: a run that it stopped may go on under another policy.
    parameters = settings.model_dump(mode="json", exclude={"alarm"})
    identity = run_identity(parameters, {"data": data, "reference": reference})
    state = new_state(settings, data, sets.labels, best_device(), identity)
    if world.leads:
        out.require_ours()
        if mirror:
            mirror.start(identity, resume)
        if resume and out.history_so_far.exists() and checkpoint.resume(out.checkpoints, state):
            print(f"train: going on after {state.images:,} images", file=sys.stderr)
        else:
            make_room(out)
        out.card.unlink(missing_ok=True)
    state.share(world)
    return state


def train(
    state: State,
    sets: Sets,
    data: dict[str, Any],
    settings: Train,
    out: Model,
    *,
    world: World | None = None,
    judge: Judge | None = None,
    log: Log | None = None,
    mirror: Mirror | None = None,
    advance: Callable[[int, int], None] = lambda done, total: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train `state`, of `begin`, and fill `out`; returns the card that is written last.

    `stop` is asked after every step. `judge` scores the checkpoints, of which the best is kept; without one the last
    is. Checkpoints stay until `conclude(out)`: who is stopped after the training, but before its caller is done with
    it, resumes at its end. Of many processes the leader alone writes, measures and logs.

    Raises TrainingError when a loss or weight is not finite or an alarm stops the run, and Interrupted after the
    checkpoint that `stop` asks for.
    """
    world = world or World()
    step = make_step(state, settings, world)
    leader = Leader(state, sets, settings, out, judge, log or NoLog(), mirror) if world.leads else None
    with closing(Batches(sets.train, sets.labels, settings, state.device, world)) as batches:
        while state.images < settings.total_images:
            before = state.images
            step(batches.take(before))
            due = Due(before, state.images, last=state.images >= settings.total_images)
            advance(state.images, settings.total_images)
            stopping = world.any(stop()) and not due.last
            went_back = leader.after(due, stopping, batches) if leader else False
            if world.any(went_back):
                state.share(world)
            if stopping:
                raise Interrupted(f"stopped after {state.images:,} images, all saved; `--resume` goes on from there")
    card: dict[str, Any] = world.told(finish(state, data, settings, out) if world.leads else None)
    return card

"""What the leading process does between steps: records, samples, checkpoints, and what an alarm asks for."""

import sys
from dataclasses import dataclass

from safetensors import SafetensorError

from ganflow.artifacts import Model, read_json
from ganflow.config import Train
from ganflow.device import readings
from ganflow.errors import TrainingError
from ganflow.history import History, read_history
from ganflow.training import checkpoint
from ganflow.training.alarms import Alarm, Alarms
from ganflow.training.batches import Batches
from ganflow.training.files import draw, exported
from ganflow.training.log import Clock, Log
from ganflow.training.mirror import Mirror
from ganflow.training.state import State
from ganflow.training.watch import Judge, Sets, Watch


@dataclass(frozen=True)
class Due:
    """What happens after a step that ended with `after` images, `last` being the last one."""

    before: int
    after: int
    last: bool

    def __call__(self, every: int) -> bool:
        """Whether a multiple of `every` was reached, or the end."""
        return self.last or self.after // every > self.before // every


class Leader:
    """Watches one state, and keeps its files."""

    def __init__(
        self,
        state: State,
        sets: Sets,
        settings: Train,
        out: Model,
        judge: Judge | None,
        log: Log,
        mirror: Mirror | None = None,
    ) -> None:
        self.state, self.settings, self.out, self.log = state, settings, out, log
        self.mirror = mirror
        self.watch = Watch(sets, settings, judge if settings.online_fid_images else None)
        self.history = History(out.history_so_far, state.images)
        self.clock = Clock(state.images)
        intervals = (settings.log_every_images, settings.checkpoint_every_images)
        records = sum(settings.total_images // every + 1 for every in intervals)
        self.alarms = Alarms(records, settings.ema_half_life_images)
        for record in read_history(out.history_so_far):
            self.alarms.observe(record)

    def after(self, due: Due, stopping: bool, batches: Batches) -> bool:
        """Do what is due after a step; True when the run went back to its best state."""
        saving = due(self.settings.checkpoint_every_images)
        values: dict[str, float] = {}
        went_back = False
        if saving or due(self.settings.log_every_images):
            values = self._measure(saving, batches)
            went_back = self._react(self._record(values))
        if due(self.settings.sample_every_images):
            self.log.grid(self.state.images, draw(self.state, self.settings, self.out))
        if saving or stopping or went_back:
            self._save(self._best_score() if went_back else self._score(values), must=stopping or due.last)
        if saving and self._is_kept(due.last):
            with exported(self.state) as generator:
                self.log.kept(self.state.images, generator, values)
        return went_back

    def _measure(self, saving: bool, batches: Batches) -> dict[str, float]:
        values = self.watch.losses(self.state)
        if not all(abs(value) < float("inf") for value in values.values()):
            self._diverged()
        values |= self.watch.diversity(self.state)
        if saving:
            self._require_finite()
            values |= self.watch.examine(self.state, batches)
        return values

    def _record(self, values: dict[str, float]) -> list[Alarm]:
        """Append to the history, tell the log, and ask the alarms."""
        images = self.state.images
        self.history.append({"images": images, **values})
        rates, machine = self.clock.rates(images), readings(self.state.device)
        if "gpu_watts" in machine:
            machine["gpu_joules_an_image"] = machine["gpu_watts"] / rates["images_per_second"]
        self.log.metrics(images, values | rates | machine)
        return self.alarms.observe({"images": images, **values})

    def _react(self, alarms: list[Alarm]) -> bool:
        for alarm in alarms:
            print(f"train: {alarm}", file=sys.stderr)
        if not alarms or self.settings.alarm == "warn":
            return False
        best = checkpoint.best(self.out.checkpoints)
        if self.settings.alarm == "stop":
            kept = f"the best state is {best}" if best else f"the last state is {self._last()}"
            raise TrainingError(f"{alarms[0]}; {kept}; `--resume` with train.alarm=warn goes on")
        if best is None:
            print("train: there is no scored state to go back to; going on", file=sys.stderr)
            return False
        self.state.load_players(checkpoint.load(best))
        self.state.pace /= 2
        print(f"train: back to the weights of {int(best.stem):,} images, at half the learning rate", file=sys.stderr)
        return True

    def _score(self, values: dict[str, float]) -> float | None:
        return values.get(self.watch.judge.name) if self.watch.judge else None

    def _is_kept(self, last: bool) -> bool:
        """Whether this state is the best so far; where none is scored, whether it is the last."""
        best = checkpoint.best(self.out.checkpoints)
        return int(best.stem) == self.state.images if best else last

    def _best_score(self) -> float | None:
        best = checkpoint.best(self.out.checkpoints)
        return read_json(best.with_suffix(".json"))["score"] if best else None

    def _save(self, score: float | None, must: bool) -> None:
        """A checkpoint; a disk that refuses one in between does not end the training."""
        self._require_finite()
        try:
            kept = checkpoint.save(self.out.checkpoints, self.state, score)
            if self.mirror:
                self.mirror.keep(kept)
        except (OSError, SafetensorError) as error:
            if must:
                raise
            print(
                f"train: the checkpoint at {self.state.images:,} images could not be written ({error}); going "
                f"on, and the last one is {self._last()}; free some space",
                file=sys.stderr,
            )

    def _require_finite(self) -> None:
        """Raise TrainingError when a weight is NaN or infinite: such a state is never saved."""
        if not self.state.finite():
            self._diverged()

    def _diverged(self) -> None:
        path = self._last()
        kept = f"the last good state is {path}" if path else "no checkpoint was written yet"
        raise TrainingError(
            f"the training diverged to NaN or infinity by image {self.state.images:,}; {kept}; lower "
            "train.learning_rate"
        )

    def _last(self) -> str | None:
        path = checkpoint.last(self.out.checkpoints)
        return str(path) if path else None

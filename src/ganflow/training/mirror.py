"""Training states outside of the pod: where another pod goes on when this one is preempted.

Below <run>/<identity>/ in the store lie samples/ and, for each checkpoint, <images>/ with its tensors, the history and
the MLflow run of that moment, and last its card: without a card it is not there. Nothing is ever deleted; a rule of the
bucket does that.
"""

import os
import shutil
import sys
import tempfile
import threading
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from ganflow.artifacts import Model, read_json
from ganflow.errors import StoreError
from ganflow.training import checkpoint

if TYPE_CHECKING:
    from ganflow.objects import Store

CHECKPOINTS = "GANFLOW_CHECKPOINTS"
"""Environment variable: URL of the store, s3://bucket/prefix or a folder that outlives the pod."""
GRACE = "GANFLOW_GRACE_SECONDS"
"""Environment variable: how long a pod lives after SIGTERM."""
STATE, CARD = "state.safetensors", "card.json"
WAITING = 2
"""Checkpoints that may wait for the store; more than that, and the oldest is given up."""


class Mirror:
    """Sends checkpoints to a store from a thread of its own, and brings them back."""

    def __init__(self, store: "Store", run: str, out: Model) -> None:
        self.store, self.run, self.out = store, run, out
        self.sent: set[str] = set()
        self.ready: deque[Path] = deque()
        self.busy, self.closing, self.warned = False, False, False
        self.change = threading.Condition()
        self.thread = threading.Thread(target=self._send_all, daemon=True)

    @classmethod
    def of(cls, out: Model) -> "Mirror | None":
        """The one that the environment asks for."""
        from ganflow.objects import open_store

        url = os.environ.get(CHECKPOINTS)
        return cls(open_store(url), os.environ.get("KFP_RUN_ID", "local"), out) if url else None

    def start(self, identity: str, resume: bool) -> None:
        """Begin to send; with `resume`, bring back the newest checkpoint and the best, unless newer ones are here.

        Raises StoreError when the store cannot be read: to begin anew then would lose what is there.
        """
        self.run = f"{self.run}/{identity}"
        shutil.rmtree(self._outgoing, ignore_errors=True)
        if resume:
            self._restore()
        self.thread.start()

    def _restore(self) -> None:
        cards = self._cards()
        here = checkpoint.last(self.out.checkpoints)
        if cards and (here is None or int(here.stem) < max(cards)):
            self._fetch(cards)

    def keep(self, state: Path) -> None:
        """Send a checkpoint on its way: its tensors' path. Returns at once."""
        folder = self._outgoing / state.stem
        folder.mkdir(parents=True)
        os.link(state, folder / STATE)
        shutil.copyfile(state.with_suffix(".json"), folder / CARD)
        for path in (self.out.mark, self.out.history_so_far, self.out.mlflow_run):
            if path.exists():
                shutil.copyfile(path, folder / path.name)
        with self.change:
            self.ready.append(folder)
            if len(self.ready) > WAITING:
                shutil.rmtree(self.ready.popleft())
            self.change.notify_all()

    def close(self) -> None:
        """Wait until all is sent, as long as the pod may live after SIGTERM."""
        end = time.monotonic() + 0.8 * float(os.environ.get(GRACE, "30"))
        with self.change:
            self.closing = True
            self.change.notify_all()
            while (self.ready or self.busy) and time.monotonic() < end:
                self.change.wait(1)

    @property
    def _outgoing(self) -> Path:
        return self.out.checkpoints / "outgoing"

    def _cards(self) -> dict[int, float | None]:
        """The score of every checkpoint that is whole in the store, by its images."""
        keys = [key for key in self.store.list(f"{self.run}/") if key.endswith(f"/{CARD}")]
        with tempfile.TemporaryDirectory() as folder:
            for key in keys:
                self.store.get(key, Path(folder) / key.split("/")[-2])
            return {int(path.name): read_json(path)["score"] for path in Path(folder).iterdir()}

    def _fetch(self, cards: dict[int, float | None]) -> None:
        newest = max(cards)
        scored = [(score, images) for images, score in cards.items() if score is not None]
        for images in {newest, *(images for _, images in sorted(scored)[:1])}:
            place = self.out.checkpoints / f"{images:09d}"
            self.store.get(f"{self.run}/{place.name}/{STATE}", place.with_suffix(".safetensors"))
            self.store.get(f"{self.run}/{place.name}/{CARD}", place.with_suffix(".json"))
        for path in (self.out.mark, self.out.history_so_far, self.out.mlflow_run):
            key = f"{self.run}/{newest:09d}/{path.name}"
            if self.store.exists(key):
                self.store.get(key, path)
        for key in self.store.list(f"{self.run}/samples/"):
            name = Path(key).name
            if int(Path(name).stem) <= newest:
                self.store.get(key, self.out.samples_so_far / name)
        print(f"train: the checkpoint of {newest:,} images is back from {self.store.url}", file=sys.stderr)

    def _send_all(self) -> None:
        while True:
            with self.change:
                while not self.ready:
                    if self.closing:
                        return
                    self.change.wait()
                folder = self.ready.popleft()
                self.busy = True
            try:
                self._send(folder)
            except (StoreError, OSError) as error:
                self._warn(error)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                with self.change:
                    self.busy = False
                    self.change.notify_all()

    def _send(self, folder: Path) -> None:
        for path in sorted(self.out.samples_so_far.glob("*.png")):
            if path.name not in self.sent:
                self.store.put(path, f"{self.run}/samples/{path.name}")
                self.sent.add(path.name)
        for path in sorted(folder.iterdir(), key=lambda path: path.name == CARD):
            self.store.put(path, f"{self.run}/{folder.name}/{path.name}")

    def _warn(self, error: Exception) -> None:
        """A store that is down does not end the training; it is said once."""
        if not self.warned:
            print(
                f"train: a checkpoint could not leave this machine ({error}); going on, and the later ones are tried",
                file=sys.stderr,
            )
        self.warned = True

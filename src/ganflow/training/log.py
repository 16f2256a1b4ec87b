"""Who is told of a training, besides the files."""

import time
from pathlib import Path
from typing import Protocol


class Log(Protocol):
    """Who is told: MLflow, or nobody."""

    def metrics(self, images: int, values: dict[str, float]) -> None:
        """Values measured at `images` seen."""

    def grid(self, images: int, path: Path) -> None:
        """A PNG of samples, made at `images` seen."""

    def kept(self, images: int, generator: Path, values: dict[str, float]) -> None:
        """The averaged generator's file of a state that is kept, at `images` seen; it goes away after the call."""


class NoLog:
    """Tells nobody."""

    def metrics(self, images: int, values: dict[str, float]) -> None:
        """Nothing."""

    def grid(self, images: int, path: Path) -> None:
        """Nothing."""

    def kept(self, images: int, generator: Path, values: dict[str, float]) -> None:
        """Nothing."""


class Clock:
    """How fast the training goes."""

    def __init__(self, images: int) -> None:
        self.then, self.images = time.monotonic(), images

    def rates(self, images: int) -> dict[str, float]:
        """Images a second, and thousands an hour, between the last call and this one."""
        now = time.monotonic()
        rate = (images - self.images) / (now - self.then)
        self.then, self.images = now, images
        return {"images_per_second": rate, "kimg_per_hour": rate * 3.6}

"""Progress of long work: a bar on a terminal, a plain line every ten seconds in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_SECONDS = 10.0
Advance = Callable[[int, int], None]
"""Called with (done, total) as work goes on."""


@contextmanager
def progress(label: str, unit: str = "images") -> Iterator[Advance]:
    """Yield the function to call with (done, total); it writes to standard error."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(desc=label, unit=f" {unit}", unit_scale=True, dynamic_ncols=True) as bar:

            def draw(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            yield draw
    else:
        yield _Lines(label, unit)


class _Lines:
    """`train: 120,000 of 500,000 images (24 %), 2,310 images/s, 164 s left`, every ten seconds and at the end."""

    def __init__(self, label: str, unit: str) -> None:
        self.label, self.unit = label, unit
        self.last = time.monotonic()
        self.first: tuple[float, int] | None = None

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        started, done_then = self.first = self.first or (now, done)
        if now - self.last < EVERY_SECONDS and done < total:
            return
        self.last = now
        rate = (done - done_then) / (now - started) if now > started else 0.0
        speed = f", {rate:,.0f} {self.unit}/s, {max(total - done, 0) / rate:,.0f} s left" if rate else ""
        print(
            f"{self.label}: {done:,} of {total:,} {self.unit} ({done / total:.0%}){speed}",
            file=sys.stderr,
            flush=True,
        )

"""Prepare against its peers on the same files: `python -m benchmarks.preparation [--images N]`; one table, ratios.

Images a second, and the processor's time for an image, of these, each in processes of its own, in turn:

- Pillow alone, one process: open the file, convert, crop and resize where the size asks for it, asarray; nothing kept.
- torchvision's ImageFolder with a DataLoader, which decodes the same files the same way at every epoch; in images a
  second the start of its processes is left out.
- the decode path of `prepare`, one process: read the files, decode, write the pixels to the file of images.
- the whole of `prepare`, by one process and by all cores: also the listing, the md5 of every raw and prepared file,
  the signatures and the data card.

The table has the best of the rounds, and the parallel efficiency is of the best by one and by all. The last lines say
how long a training of 60,000 images waits for its first batch.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIDE = 64
KINDS: dict[str, tuple[int, str, float]] = {
    "PNG 64x64": (64, "png", 4.0),
    "JPEG 178x218": (218, "jpg", 1.0),
    "JPEG 500x375": (500, "jpg", 0.3),
}
"""Longer side, suffix, and how many images in units of --images."""


def make_files(folder: Path, kind: str, count: int) -> None:
    """Images that look like photographs to a decoder: smooth shapes, edges and some noise."""
    side, suffix, _ = KINDS[kind]
    size = {64: (64, 64), 218: (178, 218), 500: (500, 375)}[side]
    random = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number % 10}" / f"{number:06}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8))
        smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.int16)
        noisy = smooth + random.integers(-6, 7, smooth.shape, np.int16)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def bare_pillow(folder: Path) -> float:
    """Seconds of Pillow alone, one process, after the files were listed."""
    paths = sorted(str(path) for path in folder.rglob("*.*"))
    start = time.perf_counter()
    for path in paths:
        with Image.open(path) as image:
            picture = image.convert("RGB")
            side = min(picture.size)
            if picture.size != (side, side):
                left, top = (picture.width - side) // 2, (picture.height - side) // 2
                picture = picture.crop((left, top, left + side, top + side))
            if side != SIDE:
                picture = picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            np.asarray(picture)
    return time.perf_counter() - start


def torchvision_loader(folder: Path, processes: int) -> float:
    """Seconds of one epoch of ImageFolder and DataLoader, from the first batch's arrival on."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    lanczos = transforms.InterpolationMode.LANCZOS
    steps = [transforms.Resize(SIDE, lanczos), transforms.CenterCrop(SIDE), transforms.PILToTensor()]
    loader = DataLoader(
        ImageFolder(str(folder), transforms.Compose(steps)), 256, num_workers=0 if processes == 1 else processes
    )
    batches = iter(loader)
    first = 0.0
    start = time.perf_counter()
    if processes > 1:
        next(batches)
        first = 256.0
        start = time.perf_counter()
    count = sum(len(images) for images, _ in batches)
    return (time.perf_counter() - start) * (count + first) / count


def decode_path(folder: Path) -> float:
    """Seconds of reading, decoding and writing, one process, after the files were listed; no hash and no check."""
    from ganflow.config import Data
    from ganflow.data.raw import SIZES
    from ganflow.data.sources import open_raw
    from ganflow.data.work import Decode
    from ganflow.data.writer import Rows

    settings = Data(resolution=SIDE, channels=3, held_out=0.1)
    found = open_raw(folder)
    with tempfile.TemporaryDirectory() as out:
        rows = Rows(Path(out), found.count, settings.image_shape)
        start = time.perf_counter()
        for number, chunk in enumerate(found.chunks(np.arange(found.count), SIZES)):
            Decode(number, chunk, chunk.index, rows, settings, found.count, loose=False)()
        return time.perf_counter() - start


def ours(folder: Path, processes: int) -> float:
    """Seconds of the whole step."""
    from ganflow.config import Data
    from ganflow.data import prepare

    settings = Data(resolution=SIDE, channels=3, held_out=0.1)
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        prepare(folder, Path(out) / "out", settings, lambda done, total: None, processes)
        return time.perf_counter() - start


def first_batch(folder: Path) -> float:
    """Seconds from opening the prepared images, hashes checked, to the first batch as floats."""
    import torch

    from ganflow.artifacts import Prepared
    from ganflow.config import Train
    from ganflow.images import open_prepared
    from ganflow.parallel import World
    from ganflow.training.batches import Batches

    start = time.perf_counter()
    images, labels, card = open_prepared(Prepared(folder))
    batches = Batches(images[: card["train"]], labels, Train(), torch.device("cpu"), World())
    batches.take(0)
    seconds = time.perf_counter() - start
    batches.close()
    return seconds


WORK: dict[str, Callable[..., float]] = {
    "bare_pillow": bare_pillow,
    "decode_path": decode_path,
    "torchvision_loader": torchvision_loader,
    "ours": ours,
    "first_batch": first_batch,
}


def measured(name: str, folder: Path, *arguments: int) -> tuple[float, float]:
    """Seconds of the work, by the clock, and of the processors with its child processes; imports are in neither."""
    import torch  # noqa: F401 (`prepare` needs it to split, and torchvision)

    import ganflow.data  # noqa: F401

    before = processor_seconds()
    seconds = WORK[name](folder, *arguments)
    return seconds, processor_seconds() - before


def processor_seconds() -> float:
    """Of this process, and of its children that have ended."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in usage)


def timed(name: str, *arguments: object) -> tuple[float, float]:
    """The work in a fresh process with one thread: seconds by the clock, and of the processors."""
    work = ["--files", ".", "--work", name, *map(str, arguments)]
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.preparation", *work]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    clock, processors = json.loads(done.stdout.splitlines()[-1])
    return clock, processors


def contest(folder: Path, rounds: int) -> dict[str, tuple[float, float]]:
    """Seconds of each contestant on the files, by the clock and of the processors; the best of the rounds."""
    cores = len(os.sched_getaffinity(0))
    contestants: dict[str, tuple[Any, ...]] = {
        "Pillow, 1 process": ("bare_pillow", folder),
        "ganflow, decode path, 1 process": ("decode_path", folder),
        "ganflow, 1 process": ("ours", folder, 1),
        "ganflow, all cores": ("ours", folder, cores),
        "torchvision, 1 process": ("torchvision_loader", folder, 1),
        "torchvision, all cores": ("torchvision_loader", folder, cores),
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, work in contestants.items():
            taken[name].append(timed(*work))
    return {name: (min(t[0] for t in times), min(t[1] for t in times)) for name, times in taken.items()}


def main() -> None:
    """Make the files, let all run, print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--files", type=Path, required=True, help="where the files are made, and found the next time")
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        name, folder, *rest = arguments.work
        print(json.dumps(measured(name, Path(folder), *map(int, rest))))
        return
    for kind in arguments.kinds:
        count = int(arguments.images * KINDS[kind][2])
        folder = arguments.files / f"{kind} {count}"
        if not folder.exists():
            make_files(folder, kind, count)
        table(f"{count:,} {kind}", count, contest(folder, arguments.rounds))
    print(f"\nfirst batch of a training from 60,000 images of 28x28, hashes checked: {latency(28, 1):.2f} s")
    print(f"the same from 60,000 of 64x64 in colour: {latency(64, 3):.2f} s")


def table(what: str, count: int, taken: dict[str, tuple[float, float]]) -> None:
    """Print what the contestants took for so many images, and the ratios that matter."""
    cores = len(os.sched_getaffinity(0))
    bare = taken["Pillow, 1 process"][1]
    print(f"\n| {what} | images/s | CPU microseconds an image | to Pillow's |\n|---|---:|---:|---:|")
    for name, (clock, processors) in taken.items():
        print(f"| {name} | {count / clock:,.0f} | {1e6 * processors / count:.0f} | {processors / bare:.2f} |")
    (one, alone), (several, together) = taken["ganflow, 1 process"], taken["ganflow, all cores"]
    print(
        f"\nparallel efficiency on {cores} cores: {one / several / cores:.2f}; of CPU times {alone / together:.2f}",
        flush=True,
    )


def latency(side: int, channels: int) -> float:
    """Of the first batch from 60,000 prepared images, best of three fresh processes; the imports are not in it."""
    from ganflow.config import Data
    from ganflow.data import prepare

    with tempfile.TemporaryDirectory() as name:
        raw = np.lib.format.open_memmap(f"{name}/raw.npy", "w+", np.uint8, (66_000, side, side, channels))
        random = np.random.default_rng(0)
        for first in range(0, len(raw), 1000):
            raw[first : first + 1000] = random.integers(0, 256, raw[:1000].shape, np.uint8)
        settings = Data(resolution=side, channels=channels, held_out=1 / 11)
        prepare(Path(f"{name}/raw.npy"), Path(f"{name}/out"), settings, lambda done, total: None)
        return min(timed("first_batch", f"{name}/out")[0] for _ in range(3))


if __name__ == "__main__":
    main()

"""Prepare against its peers on the same files: `python -m benchmarks.preparation [--images N]`; one table, ratios.

Images a second of `prepare` by one process and by all cores; of Pillow alone, in one process, doing no more than open,
convert, crop, resize and asarray; of torchvision's ImageFolder with a DataLoader, which decodes the same files the same
way at every epoch; and how long a training of 60,000 images waits for its first batch. Every timing is in a process of
its own, and the contestants take turns; the table has the best of the rounds. Torchvision's figure leaves out the start
of its processes, ours has all there is in it: listing, hashes, checks and the data card.
"""

import argparse
import json
import os
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
    paths = sorted(folder.rglob("*.*"))
    start = time.perf_counter()
    for path in paths:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
            side = min(rgb.size)
            left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
            small = rgb.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            np.asarray(small)
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
    "torchvision_loader": torchvision_loader,
    "ours": ours,
    "first_batch": first_batch,
}


def timed(name: str, *arguments: object) -> float:
    """The work in a fresh process with one thread."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.preparation", "--work", name, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(json.loads(done.stdout.splitlines()[-1]))


def contest(folder: Path, count: int, rounds: int) -> dict[str, float]:
    """Images a second of each contestant on the files in the folder, the best of the rounds."""
    processes = len(os.sched_getaffinity(0))
    contestants: dict[str, tuple[Any, ...]] = {
        "Pillow, 1 process": ("bare_pillow", folder),
        "torchvision, 1 process": ("torchvision_loader", folder, 1),
        "torchvision, all cores": ("torchvision_loader", folder, processes),
        "ganflow, 1 process": ("ours", folder, 1),
        "ganflow, all cores": ("ours", folder, processes),
    }
    best = dict.fromkeys(contestants, float("inf"))
    for _ in range(rounds):
        for name, work in contestants.items():
            best[name] = min(best[name], timed(*work))
    return {name: count / seconds for name, seconds in best.items()}


def main() -> None:
    """Make the files, let all run, print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--work", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        name, folder, *rest = arguments.work
        print(json.dumps(WORK[name](Path(folder), *map(int, rest))))
        return
    cores = len(os.sched_getaffinity(0))
    print(f"| images/s, {cores} cores | " + " | ".join(arguments.kinds) + " |")
    results = []
    for kind in arguments.kinds:
        with tempfile.TemporaryDirectory() as name:
            count = int(arguments.images * KINDS[kind][2])
            make_files(Path(name), kind, count)
            results.append(contest(Path(name), count, arguments.rounds))
    print("|---" * (len(results) + 1) + "|")
    for row in results[0]:
        print(f"| {row} | " + " | ".join(f"{result[row]:,.0f}" for result in results) + " |")
    ratios = {
        "parallel efficiency": lambda r: r["ganflow, all cores"] / r["ganflow, 1 process"] / cores,
        "against Pillow, a core": lambda r: r["ganflow, 1 process"] / r["Pillow, 1 process"],
        "against torchvision, 1 process": lambda r: r["ganflow, 1 process"] / r["torchvision, 1 process"],
        "against torchvision, all cores": lambda r: r["ganflow, all cores"] / r["torchvision, all cores"],
    }
    for name, ratio in ratios.items():
        print(f"| {name} | " + " | ".join(f"{ratio(result):.2f}" for result in results) + " |")
    print(f"\nfirst batch of a training from 60,000 images of 28x28, hashes checked: {latency(28, 1):.2f} s")
    print(f"the same from 60,000 of 64x64 in colour: {latency(64, 3):.2f} s")


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
        return min(timed("first_batch", f"{name}/out") for _ in range(3))


if __name__ == "__main__":
    main()

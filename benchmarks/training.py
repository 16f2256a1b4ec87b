"""The training engine against the loops that people start from: step times side by side in one process.

    python -m benchmarks.training [--rounds N] [--steps N] [--threads N] [--json FILE]

Every row trains the same networks on the same images in batches of 64, float32, Adam 2e-4, each in its own process.
Rounds are interleaved: in each, every contestant plays so many steps while the others wait; a row is the median over
the rounds, and its spread is the quartiles. Peers that are not installed are left out, and said.
"""

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.textbook import Ignite, Peer, Textbook, Torchgan
from ganflow import randomness
from ganflow.config import Train
from ganflow.device import best_device, exact_algorithms, keep_freed_memory
from ganflow.images import Images
from ganflow.networks import build_discriminator, build_generator
from ganflow.parallel import World
from ganflow.randomness import Stream
from ganflow.training.batches import Batches
from ganflow.training.capture import make_step
from ganflow.training.game import Knobs
from ganflow.training.state import architecture, new_state

Play = Callable[[int], None]
"""Plays so many steps."""
PEERS: dict[str, type[Peer]] = {"textbook": Textbook, "ignite": Ignite, "torchgan": Torchgan}
CLASSIC = {"learning_rate": 2e-4, "width": 32, "latent_dim": 64, "total_images": 1 << 40}
NORMLESS = {"discriminator_norm": "none", "loss": "relativistic"}
PARITY_STEPS = 50


def data(resolution: int, channels: int) -> dict[str, Any]:
    """What a training is told of its images."""
    return {"resolution": resolution, "channels": channels, "classes": None}


def noise(count: int, resolution: int = 28, channels: int = 1) -> Images:
    """Random uint8 images: the time of a step does not depend on what they show."""
    return np.random.default_rng(0).integers(0, 256, (count, channels, resolution, resolution), dtype=np.uint8)


class Ours:
    """The engine's own step and batches."""

    def __init__(self, images: Images, **changes: Any) -> None:
        self.settings = Train.model_validate({**CLASSIC, **changes})
        self.state = new_state(self.settings, data(*images.shape[2:0:-1]), None, best_device(), "")
        self.play = make_step(self.state, self.settings, World())
        self.batches = Batches(images, None, self.settings, self.state.device, World())

    def steps(self, count: int) -> None:
        """Play, and wait for the device once."""
        for _ in range(count):
            self.play(self.batches.take(self.state.images))
        self.state.sums.tolist()


def peer(kind: type[Peer], ours: Ours, images: Images) -> Play:
    """A peer with networks and first weights like the engine's."""
    drawn = architecture(ours.settings, data(*images.shape[2:0:-1]))
    judged = {key: value for key, value in drawn.items() if key != "latent_dim"}
    networks = (build_generator(drawn), build_discriminator({**judged, "name": ours.settings.discriminator}))
    made = kind(ours.state, ours.settings, images, networks)
    return made.steps


def d_updates(ours: Ours) -> Play:
    """Only D's part of a step."""
    match, state = ours.play.match, ours.state
    knobs = Knobs(state.augment_probability, state.gamma)

    def play(count: int) -> None:
        for _ in range(count):
            (batch,) = ours.batches.take(0)
            match.differentiate_d(batch, match.draw(batch, False), knobs, True)
            match.discriminator.step()
        state.sums.tolist()

    return play


@dataclass(frozen=True)
class Contestant:
    """Who plays: `ganflow`, `update of D`, or a peer; on images of this shape, with settings that differ so."""

    kind: str
    shape: tuple[int, int]
    changes: dict[str, Any]

    def make(self) -> Play:
        """In the process where it plays. Raises ImportError for a peer that is not installed."""
        images = noise(4096, *self.shape)
        if self.kind in PEERS:
            return peer(PEERS[self.kind], Ours(images, **self.changes), images)
        exact_algorithms()
        keep_freed_memory()
        ours = Ours(images, **self.changes)
        return ours.steps if self.kind == "ganflow" else d_updates(ours)


def worker(contestant: Contestant, threads: int, pipe: Any) -> None:
    """Play as many steps as asked, and tell the seconds; each contestant has a process of its own."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(threads)
    try:
        play = contestant.make()
    except ImportError as error:
        pipe.send(str(error))
        return
    pipe.send(None)
    while count := pipe.recv():
        start = time.perf_counter()
        play(count)
        pipe.send(time.perf_counter() - start)


def race(contestants: dict[str, Contestant], rounds: int, steps: int) -> dict[str, list[float]]:
    """Milliseconds a step, a number a round."""
    spawn = multiprocessing.get_context("spawn")
    pipes: dict[str, Any] = {}
    for name, contestant in contestants.items():
        ours, theirs = spawn.Pipe()
        spawn.Process(target=worker, args=(contestant, torch.get_num_threads(), theirs), daemon=True).start()
        missing = ours.recv()
        if missing:
            print(f"without {name}: {missing}")
        else:
            pipes[name] = ours
    times: dict[str, list[float]] = {name: [] for name in pipes}
    names = list(pipes)
    for number in range(-1, rounds):  # the first round warms up, and captures
        turn = max(number, 0) % len(names)
        for name in names[turn:] + names[:turn]:
            pipes[name].send(steps if number >= 0 else max(steps, 5))
            seconds = pipes[name].recv()
            if number >= 0:
                times[name].append(seconds / steps * 1e3)
    for pipe in pipes.values():
        pipe.send(0)
    return times


def classic(resolution: int, channels: int, rounds: int, steps: int) -> list[dict[str, Any]]:
    """The DCGAN at one size: the engine, and every peer that is installed."""
    shape = (resolution, channels)
    contestants = {name: Contestant(name, shape, {}) for name in ("ganflow", *PEERS)}
    if best_device().type == "cuda":
        contestants["ganflow, CUDA graphs"] = Contestant("ganflow", shape, {"cuda_graphs": True})
        fast = {"cuda_graphs": True, "precision": "bfloat16"}
        contestants["ganflow, CUDA graphs, bfloat16"] = Contestant("ganflow", shape, fast)
    return rows(f"DCGAN, {resolution}x{resolution}x{channels}", race(contestants, rounds, steps), "textbook")


def penalties(rounds: int, steps: int) -> list[dict[str, Any]]:
    """D's updates alone, plain and with R1 and R2: the R3GAN game on the DCGAN without norm."""
    games = {"plain": 0.0, "R1 + R2": 1.0}
    contestants = {
        name: Contestant("update of D", (28, 1), {**NORMLESS, "r1_gamma": gamma, "r2_gamma": gamma})
        for name, gamma in games.items()
    }
    return rows("an update of D, DCGAN without norm, 28x28x1", race(contestants, rounds, steps), "plain")


def rows(game: str, times: dict[str, list[float]], base: str) -> list[dict[str, Any]]:
    """Medians, quartiles, and how many times as fast as the base; the ratio is the median of the rounds' ratios."""
    table = []
    for name, values in times.items():
        low, middle, high = statistics.quantiles(values, n=4)
        ratio = statistics.median(b / v for b, v in zip(times[base], values, strict=True))
        table.append({"game": game, "loop": name, "ms": middle, "low": low, "high": high, "ratio": ratio, "base": base})
    return table


def parity() -> list[dict[str, Any]]:
    """D's loss of the engine and of the textbook on the same images and latents, over 50 steps."""
    images = noise(4096)
    ours = Ours(images)
    settings = ours.settings
    drawn = architecture(settings, data(28, 1))
    judged = {key: value for key, value in drawn.items() if key != "latent_dim"}
    networks = (build_generator(drawn), build_discriminator({**judged, "name": settings.discriminator}))
    textbook = Textbook(ours.state, settings, images, networks)
    worst, table = 0.0, []
    for number in range(PARITY_STEPS):
        before = ours.state.sums.tolist()
        (batch,) = ours.batches.take(ours.state.images)
        latents = randomness.normal(settings.seed, Stream.LATENTS, batch.index, settings.latent_dim)
        ours.play([batch])
        loss_d = ours.state.sums.tolist()[0] - before[0]
        other_d, _ = textbook.step(batch.images.contiguous(), latents)
        worst = max(worst, abs(loss_d - other_d) / abs(other_d))
        if number in (0, 9, PARITY_STEPS - 1):
            table.append({"step": number + 1, "ganflow": loss_d, "textbook": other_d, "worst_so_far": worst})
    return table


def growth(steps: int) -> list[dict[str, Any]]:
    """Microseconds an image to fetch, and the process's peak memory, as a memory-mapped set grows."""
    table = []
    for count in (1_000, 10_000, 60_000, 600_000):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "images.npy"
            mapped = np.lib.format.open_memmap(path, "w+", np.uint8, (count, 1, 28, 28))
            for first in range(0, count, 10_000):
                mapped[first : first + 10_000] = noise(min(10_000, count - first))
            del mapped
            images = np.load(path, mmap_mode="r")
            settings = Train.model_validate(CLASSIC)
            batches = Batches(images, None, settings, torch.device("cpu"), World())
            batches.take(0)  # an epoch's order is made once
            start = time.perf_counter()
            for step in range(1, steps):
                batches.take(step * settings.batch_size)
            seconds = time.perf_counter() - start
            batches.close()
            table.append({
                "images": count,
                "microseconds_an_image": seconds / ((steps - 1) * settings.batch_size) * 1e6,
                "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            })  # fmt: skip
    return table


def machine() -> str:
    """What the table was measured on."""
    device = best_device()
    gpu = torch.cuda.get_device_name() if device.type == "cuda" else "no GPU"
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())  # fmt: skip
    return f"{cpu}, {torch.get_num_threads()} threads, {gpu}, torch {torch.__version__}, {time.strftime('%Y-%m-%d')}"


def markdown(results: dict[str, Any]) -> str:
    """The tables."""
    lines = [f"Machine: {results['machine']}. Rounds: {results['rounds']}, steps a round: {results['steps']}.", ""]
    lines += ["| game | loop | ms a step | quartiles | speed |", "|---|---|---:|---|---:|"]
    for row in results["speed"]:
        speed = f"{row['ratio']:.2f} × {row['base']}"
        span = f"{row['low']:.2f} to {row['high']:.2f}"
        lines.append(f"| {row['game']} | {row['loop']} | {row['ms']:.2f} | {span} | {speed} |")
    lines += [
        "",
        "| step | D's loss, ganflow | textbook | largest relative difference so far |",
        "|---:|---:|---:|---:|",
    ]
    for row in results["parity"]:
        lines.append(f"| {row['step']} | {row['ganflow']:.6f} | {row['textbook']:.6f} | {row['worst_so_far']:.1e} |")
    lines += [
        "",
        "| images in the memory-mapped set | µs an image | peak memory of the process so far, MB |",
        "|---:|---:|---:|",
    ]
    for row in results["growth"]:
        lines.append(f"| {row['images']:,} | {row['microseconds_an_image']:.1f} | {row['peak_rss_mb']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="The training engine against its peers.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rounds, steps = arguments.rounds, arguments.steps
    results = {"growth": growth(500), "rounds": rounds, "steps": steps, "machine": machine(), "parity": parity()}
    sizes = [(28, 1), (32, 3), (64, 3)]
    results["speed"] = [row for size in sizes for row in classic(*size, rounds, steps)] + penalties(rounds, steps)
    print(markdown(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()

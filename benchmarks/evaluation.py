"""The evaluation beside its peers, in one run: `python -m benchmarks.evaluation [features] [whole] [frechet] [memory]`.

Peers are measured where they are installed (torch-fidelity, torchmetrics, pytorch-fid), on the same images with the
same weights, in turn, round by round; the table holds medians. All of it runs on the CPU, with PyTorch's threads.
"""

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ganflow.compare import compare_folders
from ganflow.config import Evaluate
from ganflow.metrics import frechet_distance, kernel_distance, load_named, manifold, radii

Timed = dict[str, Callable[[], Any]]
RELEASE = "pt_inception-2015-12-05-6726825d.pth"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["features", "whole", "frechet", "memory"])
    parser.add_argument("--images", type=int, default=256, help="for features/s; Inception does about 6 a second")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer", help="for whole: measure this peer alone beside ours")
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    print(f"torch {torch.__version__}, {time.strftime('%Y-%m-%d')}\n")
    warnings.simplefilter("ignore")
    if "features" in arguments.parts:
        features(arguments.images, arguments.rounds)
    if "whole" in arguments.parts:
        whole(arguments.images, arguments.rounds, arguments.peer)
    if "frechet" in arguments.parts:
        frechet(arguments.rounds)
    if "memory" in arguments.parts:
        subprocess.run([sys.executable, "-m", "benchmarks.evaluation", "bank"], check=True)
    if "bank" in arguments.parts:
        bank()


def features(count: int, rounds: int) -> None:
    """Images a second through Inception, uint8 48x48 colour in, 2048 features out."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, 3, 48, 48), dtype=np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        networks = _networks(Path(folder))
        for run in networks.values():
            run(images[:32])  # warm
        seconds: dict[str, list[float]] = {name: [] for name in networks}
        for _ in range(rounds):
            for name, run in networks.items():
                start = time.perf_counter()
                run(images)
                seconds[name].append(time.perf_counter() - start)
    print(f"| Inception features/s, {count} images, median of {rounds} | img/s | range | 10k images, extrapolated |")
    print("| --- | --- | --- | --- |")
    for name, taken in seconds.items():
        rates = sorted(count / second for second in taken)
        middle = statistics.median(rates)
        print(f"| {name} | {middle:.2f} | {rates[0]:.2f} to {rates[-1]:.2f} | {10_000 / middle:,.0f} s |")
    print()


def whole(count: int, rounds: int, peer: str | None) -> None:
    """CPU seconds, and seconds, from two folders of PNG files to an FID; ours gives its other scores too."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        sides = [Path(folder) / name for name in ("real", "generated")]
        for side in sides:
            side.mkdir()
            for number in range(count):
                pixels = random.integers(0, 256, (48, 48, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(side / f"{number:05d}.png")
        peers = dict(_whole_peers(_release(Path(folder)), *sides))
        runs = {"ganflow": lambda: _ours_whole(*sides)} | (peers if peer is None else {peer: peers[peer]})
        wall, cpu = ({name: list[float]() for name in runs} for _ in range(2))
        values: dict[str, float] = {}
        for _ in range(rounds):
            for name, run in runs.items():
                start, busy = time.perf_counter(), _cpu_seconds()
                values[name] = run()
                wall[name].append(time.perf_counter() - start)
                cpu[name].append(_cpu_seconds() - busy)
    ours = statistics.median(cpu["ganflow"])
    print(
        f"| two folders of {count} PNG files to an FID, median of {rounds} | CPU-s | seconds | times our CPU-s | FID |"
    )
    print("| --- | --- | --- | --- | --- |")
    for name, taken in cpu.items():
        middle, passed = statistics.median(taken), statistics.median(wall[name])
        print(f"| {name} | {middle:.0f} | {passed:.0f} | {middle / ours:.2f} | {values[name]:.4f} |")
    print()


def _cpu_seconds() -> float:
    """Of this process and of the loaders that it has waited for."""
    return time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])


def _ours_whole(real: Path, generated: Path) -> float:
    with tempfile.TemporaryDirectory() as cache:  # the real side is measured anew, as the peers do
        os.environ["XDG_CACHE_HOME"] = cache
        found = compare_folders(real, generated, Evaluate(extractor="inception"))
    return float(found[found["score"]])


def _whole_peers(weights: Path, real: Path, generated: Path) -> Iterator[tuple[str, Callable[[], float]]]:
    paths = [str(real), str(generated)]
    try:
        from torch_fidelity import calculate_metrics

        options = {"cuda": False, "fid": True, "batch_size": 32, "cache": False, "verbose": False}
        yield (
            "torch-fidelity",
            lambda: calculate_metrics(
                input1=paths[1], input2=paths[0], feature_extractor_weights_path=str(weights), **options
            )["frechet_inception_distance"],
        )
    except ImportError:
        pass
    try:
        from pytorch_fid.fid_score import calculate_fid_given_paths

        torch.hub.set_dir(str(weights.parent.parent))
        yield "pytorch-fid", lambda: float(calculate_fid_given_paths(paths, 32, "cpu", 2048, num_workers=1))
    except ImportError:
        pass


def frechet(rounds: int, d: int = 2048) -> None:
    """CPU seconds of the distance of two sets of 10,000 features, mixed and cut at zero as Inception's are."""
    mu1, sigma1, mu2, sigma2 = (*_moments(0, d), *_moments(1, d))
    runs: Timed = {"ganflow": lambda: frechet_distance(mu1, sigma1, mu2, sigma2)}
    runs |= dict(_frechet_peers(mu1, sigma1, mu2, sigma2))
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    values: dict[str, float] = {}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            values[name] = float(run())
            seconds[name].append(time.process_time() - start)
    ours = statistics.median(seconds["ganflow"])
    print(f"| the Fréchet step at {d}-d, median of {rounds} | CPU-s | range | times ours | value |")
    print("| --- | --- | --- | --- | --- |")
    for name, taken in seconds.items():
        middle, extent = statistics.median(taken), f"{min(taken):.2f} to {max(taken):.2f}"
        print(f"| {name} | {middle:.2f} | {extent} | {middle / ours:.2f} | {values[name]:.6f} |")
    print()


def bank(n: int = 50_000, d: int = 2048) -> None:
    """Peak memory of KID, precision, recall, density and coverage with two banks of features, theirs included."""
    random = np.random.default_rng(0)
    real, fake = (random.standard_normal((n, d), dtype=np.float32) for _ in range(2))
    print("| two banks of features | | CPU-s | peak memory of the process |")
    print("| --- | --- | --- | --- |")
    runs: Timed = {
        "PyTorch and the features": lambda: None,
        "KID": lambda: kernel_distance(fake, real, 0),
        "precision, recall, density, coverage": lambda: manifold(fake, real, radii(real)),
    }
    for name, run in runs.items():
        start = time.process_time()
        run()
        print(f"| {n:,} x {d} | {name} | {time.process_time() - start:.0f} | {_peak():.2f} GiB |", flush=True)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _moments(seed: int, d: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    hidden = random.standard_normal((10_000, d)) * np.arange(1, d + 1) ** -0.5
    rows = (hidden @ np.random.default_rng(9).standard_normal((d, d))).clip(min=0)
    return rows.mean(0), np.cov(rows, rowvar=False)


def _release(folder: Path) -> Path:
    """Our weights as the peers want them: the public release's file, with the class layer that they do not use."""
    weights = folder / "hub" / "checkpoints" / RELEASE
    weights.parent.mkdir(parents=True)
    empty = {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save({**load_named(Evaluate(extractor="inception")).network.state_dict(), **empty}, weights)
    return weights


def _networks(folder: Path) -> dict[str, Callable[[torch.Tensor], Any]]:
    """Each one maps uint8 images to their features, in batches of 32."""
    found: dict[str, Callable[[torch.Tensor], Any]] = {"ganflow": load_named(Evaluate(extractor="inception"))}
    return found | dict(_network_peers(_release(folder)))


def _network_peers(weights: Path) -> Iterator[tuple[str, Callable[[torch.Tensor], Any]]]:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError:
        return
    network = FeatureExtractorInceptionV3("i", ["2048"], str(weights)).eval()
    yield "torch-fidelity (and torchmetrics, which runs its network)", _batched(network)
    try:
        from pytorch_fid.inception import InceptionV3
    except ImportError:
        return
    torch.hub.set_dir(str(weights.parent.parent))
    other = InceptionV3([3]).eval()
    yield "pytorch-fid", _batched(lambda images: other(images.float() / 255))


def _batched(network: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
    def run(images: torch.Tensor) -> list[Any]:
        with torch.inference_mode():
            return [network(part) for part in torch.split(images, 32)]

    return run


def _frechet_peers(*moments: NDArray[np.float64]) -> Iterator[tuple[str, Callable[[], Any]]]:
    mu1, sigma1, mu2, sigma2 = moments
    try:
        from torchmetrics.image.fid import _compute_fid

        yield "torchmetrics", lambda: _compute_fid(*map(torch.from_numpy, moments))
    except ImportError:
        pass
    try:
        from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric

        sides = ({"mu": mu1, "sigma": sigma1}, {"mu": mu2, "sigma": sigma2})
        yield "torch-fidelity", lambda: fid_statistics_to_metric(*sides, verbose=False)[KEY_METRIC_FID]
    except ImportError:
        pass
    try:
        from pytorch_fid.fid_score import calculate_frechet_distance

        yield "pytorch-fid", lambda: calculate_frechet_distance(mu1, sigma1, mu2, sigma2)
    except ImportError:
        pass


if __name__ == "__main__":
    main()

"""The evaluation beside its peers, in one run: `python -m benchmarks.evaluation [features] [frechet] [memory]`.

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

from ganflow.config import Evaluate
from ganflow.metrics import frechet_distance, kernel_distance, load_named, manifold, nearest, radii

Timed = dict[str, Callable[[], Any]]
RELEASE = "pt_inception-2015-12-05-6726825d.pth"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["features", "frechet", "memory"])
    parser.add_argument("--images", type=int, default=256, help="for features/s; Inception does about 6 a second")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads")
    print(f"torch {torch.__version__}, {time.strftime('%Y-%m-%d')}\n")
    warnings.simplefilter("ignore")
    if "features" in arguments.parts:
        features(arguments.images, arguments.rounds)
    if "frechet" in arguments.parts:
        frechet()
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


def frechet(d: int = 2048) -> None:
    """CPU seconds of the distance of two sets of 10,000 features, mixed and cut at zero as Inception's are."""
    mu1, sigma1, mu2, sigma2 = (*_moments(0, d), *_moments(1, d))
    runs: Timed = {"ganflow": lambda: frechet_distance(mu1, sigma1, mu2, sigma2)}
    runs |= dict(_frechet_peers(mu1, sigma1, mu2, sigma2))
    print(f"| the Fréchet step at {d}-d | CPU-s | value |")
    print("| --- | --- | --- |")
    for name, run in runs.items():
        start = time.process_time()
        value = float(run())
        print(f"| {name} | {time.process_time() - start:.2f} | {value:.6f} |", flush=True)
    print()


def bank(n: int = 50_000) -> None:
    """Peak memory of KID, precision, recall, density and coverage with two banks of features, theirs included.

    With Inception's 2048 features the whole KID, and the distances of the first 2,048 images to all the others: every
    tile that follows has the same size, and there are 3 n / 2,048 rows of them. The whole with the classifier's 128.
    """
    random = np.random.default_rng(0)
    real, fake = (random.standard_normal((n, 2048), dtype=np.float32) for _ in range(2))
    print("| features, twice | KID | precision, recall, density, coverage | peak memory of the process |")
    print("| --- | --- | --- | --- |")
    start = time.process_time()
    kernel_distance(fake, real, 0)
    between = time.process_time()
    nearest(fake[:2048], real)
    taken = between - start, time.process_time() - between
    print(
        f"| {n:,} x 2048 | {taken[0]:.0f} CPU-s | {taken[1]:.0f} CPU-s for 2,048 rows | {_peak():.2f} GiB |", flush=True
    )
    _whole_bank(n, 128)


def _whole_bank(n: int, d: int) -> None:
    random = np.random.default_rng(0)
    real, fake = (random.standard_normal((n, d), dtype=np.float32) for _ in range(2))
    start = time.process_time()
    kernel_distance(fake, real, 0)
    between = time.process_time()
    manifold(fake, real, radii(real))
    taken = between - start, time.process_time() - between
    print(f"| {n:,} x {d} | {taken[0]:.0f} CPU-s | {taken[1]:.0f} CPU-s | {_peak():.2f} GiB |", flush=True)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _moments(seed: int, d: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    hidden = random.standard_normal((10_000, d)) * np.arange(1, d + 1) ** -0.5
    rows = (hidden @ np.random.default_rng(9).standard_normal((d, d))).clip(min=0)
    return rows.mean(0), np.cov(rows, rowvar=False)


def _networks(folder: Path) -> dict[str, Callable[[torch.Tensor], Any]]:
    """Each one maps uint8 images to their features, in batches of 32."""
    ours = load_named(Evaluate(extractor="inception"))
    weights = folder / "hub" / "checkpoints" / RELEASE
    weights.parent.mkdir(parents=True)
    empty = {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}
    torch.save({**ours.network.state_dict(), **empty}, weights)
    found: dict[str, Callable[[torch.Tensor], Any]] = {"ganflow": ours}
    found |= dict(_network_peers(weights))
    return found


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

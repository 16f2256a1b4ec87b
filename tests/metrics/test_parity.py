"""The same numbers as torch-fidelity from the same image folders, and as torchmetrics prints, with the same weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ganflow.compare import compare_folders
from ganflow.config import Evaluate
from ganflow.metrics import polynomial_mmd
from ganflow.metrics.inception import Inception

N = 32

pytestmark = pytest.mark.slow


def write(folder: Path, seed: int, *scales: int) -> Path:
    """Colour noise at these scales in turn, 48x48, as PNG."""
    folder.mkdir()
    random = np.random.default_rng(seed)
    for i in range(N):
        coarse = scales[i % len(scales)]
        small = random.integers(0, 256, (48 // coarse, 48 // coarse, 3), dtype=np.uint8)
        Image.fromarray(small.repeat(coarse, 0).repeat(coarse, 1)).save(folder / f"{i}.png")
    return folder


def test_torch_fidelity_on_the_same_folders(wheel: Path, weights: Path, tmp_path: Path) -> None:
    fidelity = pytest.importorskip("torch_fidelity")
    real, fake = write(tmp_path / "real", 0, 8), write(tmp_path / "fake", 1, 8, 6)
    theirs = fidelity.calculate_metrics(
        input1=str(fake), input2=str(real), fid=True, kid=True, prc=True, kid_subsets=1, kid_subset_size=N,
        feature_extractor="inception-v3-compat", feature_layer_prc="2048", save_cpu_ram=True, batch_size=N,
        feature_extractor_weights_path=str(weights), cuda=False, cache=False, verbose=False,
    )  # fmt: skip
    ours = compare_folders(real, fake, Evaluate(extractor="inception", inception_weights=str(wheel)))
    assert ours[f"fid_inception_{N}"] == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)
    assert ours[f"kid_inception_{N}"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    assert ours[f"precision_inception_{N}"] == pytest.approx(theirs["precision"], rel=1e-4)
    assert ours[f"recall_inception_{N}"] == pytest.approx(theirs["recall"], rel=1e-4)
    assert 0 < theirs["precision"] < 1
    assert theirs["recall"] > 0


def test_torchmetrics_value_of_the_kernel_distance(network: Inception, weights: Path) -> None:
    # The docstring of torchmetrics 1.9.0's KernelInceptionDistance(subset_size=50): it draws the network's initial
    # weights, the images, and then the subsets, from the seed 42.
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(42)
        fidelity.FeatureExtractorInceptionV3("i", ["2048"], str(weights))
        features = []
        for images in [torch.randint(low, high, (100, 3, 299, 299), dtype=torch.uint8) for low, high in RANGES]:
            features.append(torch.cat([network(part) for part in images.split(20)]).numpy())
        values = []
        for _ in range(100):
            real, fake = (side[torch.randperm(100)[:50].numpy()] for side in features)
            values.append(polynomial_mmd(real, fake))
    assert np.mean(values) == pytest.approx(0.0312, abs=1e-4)
    assert np.std(values) == pytest.approx(0.0025, abs=1e-4)


RANGES = ((0, 200), (100, 255))

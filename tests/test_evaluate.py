"""The reference: made once, kept in the cache, and honest about its images."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from registered import make_model

from ganflow import steps
from ganflow.artifacts import Prepared, Reference, file_hash
from ganflow.config import Data, Evaluate
from ganflow.errors import ArtifactError
from ganflow.evaluate import load_reference, make_reference, reference_key

SETTINGS = Evaluate(classifier_epochs=1, train_count=30)


def raw_folder(folder: Path, suffix: str) -> Path:
    random = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 20)):
        for label in ("a", "b"):
            (folder / split / label).mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 120 + 100 * (label == "b"), (28, 28), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{i}{suffix}")
    return folder


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "prepared"
    steps.prepare(str(raw_folder(tmp_path / "raw", ".png")), str(out), Data().json_text())
    return out


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: file_hash(path) for path in folder.iterdir()}


def test_the_cache_gives_the_same_bytes_and_is_rebuilt(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outs = [tmp_path / f"reference{i}" for i in range(4)]
    make_reference(Prepared(prepared), outs[0], SETTINGS)
    assert "fit the extractor" in capsys.readouterr().err
    make_reference(Prepared(prepared), outs[1], SETTINGS.model_copy(update={"count": 7}))  # of no matter here
    assert "fit the extractor" not in capsys.readouterr().err
    (kept,) = (tmp_path / "cache").rglob("extractor.safetensors")
    kept.write_bytes(b"")
    make_reference(Prepared(prepared), outs[2], SETTINGS)
    assert "fit the extractor" in capsys.readouterr().err
    make_reference(Prepared(prepared), outs[3], SETTINGS.model_copy(update={"seed": 1}))
    first, *others = (hashes(out) for out in outs)
    assert [other == first for other in others] == [True, True, False]


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("data", {"images_md5": "other"}),
        ("data", {"labels_md5": "other"}),
        ("settings", {"train_count": 31}),
        ("settings", {"extractor": "inception"}),
    ],
)
def test_the_key_is_all_that_matters(section: str, change: dict[str, object]) -> None:
    data = {"images_md5": "i", "labels_md5": "l", "train": 1, "held_out": 1, "classes": None}
    other_data = data | (change if section == "data" else {})
    other_settings = SETTINGS.model_copy(update=change if section == "settings" else {})
    assert reference_key(other_data, other_settings) != reference_key(data, SETTINGS) == reference_key(data, SETTINGS)


def test_lossy_real_images_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    steps.prepare(str(raw_folder(tmp_path / "raw", ".jpg")), str(tmp_path / "prepared"), Data().json_text())
    card = make_reference(Prepared(tmp_path / "prepared"), tmp_path / "reference", SETTINGS)
    (warning,) = card["warnings"]
    assert warning.startswith("lossy (JPEG) reference images: 40 of 40")


def test_png_is_not_warned_of(prepared: Path, tmp_path: Path) -> None:
    assert make_reference(Prepared(prepared), tmp_path / "reference", SETTINGS)["warnings"] == []


@pytest.mark.parametrize(("count", "expected"), [(30, 30), (1000, 120), (0, 40)])
def test_the_bank_is_of_training_images_or_else_of_real_ones(prepared: Path, tmp_path: Path, count, expected) -> None:
    settings = SETTINGS.model_copy(update={"train_count": count})
    make_reference(Prepared(prepared), tmp_path / "reference", settings)
    _, real, pictures = load_reference(Reference(tmp_path / "reference"))
    assert len(real.bank) == len(pictures) == expected
    assert len(real.bank_distances) == len(real.features) == 40
    assert (real.bank_distances > 0).any()


def test_a_damaged_reference_is_refused(prepared: Path, tmp_path: Path) -> None:
    reference = Reference(tmp_path / "reference")
    make_reference(Prepared(prepared), reference.path, SETTINGS)
    reference.stats.write_bytes(reference.stats.read_bytes()[:-9])
    with pytest.raises(ArtifactError, match=r"stats\.npz is damaged"):
        load_reference(reference)


@pytest.mark.slow
def test_two_processes_give_the_bytes_of_one(prepared: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", 0)
    make_reference(Prepared(prepared), tmp_path / "reference", SETTINGS)
    verb = ["-m", "ganflow", "evaluate", "model", "reference"]
    options = ["--params", "params.yaml", "--set", "evaluate.count=200", "--set", "evaluate.classifier_epochs=1"]
    (tmp_path / "params.yaml").write_text("{}")
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for out, launcher in (("one", []), ("two", torchrun)):
        command = [sys.executable, "-W", "ignore", *launcher, *verb, out, *options, "--json"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["generator_sha256"] == model.read_card()["generator_sha256"]
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    done = subprocess.run([*command[:-3], "--set", "evaluate.count=64"], cwd=tmp_path, capture_output=True, text=True)
    assert "fewer than a chunk of 64 images for each of 2 processes; start fewer" in done.stderr

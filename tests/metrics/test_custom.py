"""A user's own extractor: read from a program's file, never from a pickle."""

import io
import json
import pickle
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganflow.config import Evaluate
from ganflow.errors import ArtifactError
from ganflow.metrics import extract, load, load_named, save


class Sums(nn.Module):
    """Channel means of the quarters, weighted."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(1, 2, 4))

    def forward(self, images: Tensor) -> Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(images.float() / 255, 2)
        return pooled.mean(1).flatten(1) * self.weight


class Ranks(Sums):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).argsort(1)


def scripted(path: Path, network: nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(network, torch.zeros(32, 1, 8, 8, dtype=torch.uint8)).save(str(path))
    return path


def exported(path: Path, network: nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(network.eval(), (torch.zeros(32, 1, 8, 8, dtype=torch.uint8),))
        torch.export.save(program, path)
    return path


def settings(path: Path) -> Evaluate:
    return Evaluate(extractor="custom", extractor_file=str(path))


def images(n: int = 70) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, 1, 8, 8), dtype=np.uint8))


@pytest.mark.parametrize("write", [scripted, exported])
def test_features_are_the_program_s(write, tmp_path: Path) -> None:
    extractor = load_named(settings(write(tmp_path / "sums.pt2", Sums())))
    with torch.inference_mode():
        expected = Sums()(images()).numpy()
    np.testing.assert_allclose(extract(extractor, images().split(9)), expected, rtol=1e-5)
    save(extractor, tmp_path / "extractor.safetensors")
    loaded = load(tmp_path / "extractor.safetensors")
    assert np.array_equal(extract(loaded, [images()]), extract(extractor, [images()]))
    assert (loaded.name, loaded.sha256) == ("custom", extractor.sha256)


def test_another_program_has_another_hash(tmp_path: Path) -> None:
    one, other = Sums(), Sums()
    other.weight.data += 1
    hashes = {load_named(settings(scripted(tmp_path / f"{i}.pt", net))).sha256 for i, net in enumerate((one, other))}
    assert len(hashes) == 2


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def replaced(path: Path, part: str, data: bytes) -> Path:
    """The archive with other bytes in the members whose name has `part`; there is one at least."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    assert any(part in name for name in members)
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            new.writestr(name, data if part in name else content)
    return path


def bomb(mark: Path, zipped: bool) -> bytes:
    if not zipped:
        return pickle.dumps(Bomb(mark))
    buffer = io.BytesIO()
    torch.save(Bomb(mark), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_is_refused_and_never_run(zipped: bool, tmp_path: Path) -> None:
    path, mark = tmp_path / "extractor.pt", tmp_path / "mark"
    path.write_bytes(bomb(mark, zipped))
    with pytest.raises(ArtifactError, match=r"extractor\.pt is a pickle"):
        load_named(settings(path))
    assert not mark.exists()


def test_a_pickle_inside_an_export_is_refused_and_never_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    path = replaced(exported(tmp_path / "sums.pt2", Sums()), "sample_inputs", bomb(mark, True))
    with pytest.raises(ArtifactError, match="holds a pickle"):
        load_named(settings(path))
    assert not mark.exists()


def test_pickled_weights_inside_an_export_are_refused_and_never_run(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", exported(tmp_path / "sums.pt2", Sums())
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("weights_config.json"))
        config = json.loads(archive.read(name))
    for entry in config["config"].values():
        entry["use_pickle"] = True
    replaced(path, "weights_config.json", json.dumps(config).encode())
    replaced(path, "weights/weight_0", bomb(mark, True))
    with pytest.raises(ArtifactError, match="holds pickled weights"):
        load_named(settings(path))
    assert not mark.exists()


@pytest.mark.parametrize("write", [scripted, exported])
def test_a_file_cut_short(write, tmp_path: Path) -> None:
    path = write(tmp_path / "sums.pt2", Sums())
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ArtifactError, match="sums.pt2 is"):
        load_named(settings(path))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"no extractor at None; set evaluate\.extractor_file"):
        load_named(Evaluate(extractor="custom"))


def test_a_program_that_gives_no_features(tmp_path: Path) -> None:
    extractor = load_named(settings(scripted(tmp_path / "ranks.pt", Ranks())))
    with pytest.raises(ArtifactError, match=r"gives torch\.int64 .* must give one float tensor"):
        extract(extractor, [images()])

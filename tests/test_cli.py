"""Bad input of every kind: one sentence, the right exit code, and what was there stays as it was."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import write_idx

from ganflow.cli import main

# MLflow's models warn once, while SQLAlchemy 2.1 reads them.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")


def tree(folder: Path) -> dict[str, str]:
    """Hash by file; MLflow's own store may be opened and written."""
    return {
        path.relative_to(folder).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.relative_to(folder).as_posix().startswith("mlflow.db")
    }


def spoil(name: str) -> Callable[[Path], None]:
    """Flip the last byte of a file."""

    def change(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[-1] ^= 0xFF
        (folder / name).unlink()  # dvc links its cache
        (folder / name).write_bytes(content)

    return change


def truncated(folder: Path) -> None:
    path = folder / "data/fashion-mnist/train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-50])


def other_labels(folder: Path) -> None:
    raw = folder / "data/fashion-mnist"
    write_idx(raw, "train", np.zeros((9, 28, 28), np.uint8), np.zeros(8, np.uint8))


def pickled(folder: Path) -> None:
    (folder / "raw").mkdir()
    np.save(folder / "raw/images.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)


def broken_images(folder: Path) -> None:
    (folder / "raw").mkdir()
    for i in range(9):
        (folder / f"raw/{i}.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")


def photos(folder: Path) -> None:
    (folder / "photos").mkdir()
    (folder / "photos/wedding.jpg").write_bytes(b"x")


def another_model(folder: Path) -> None:
    shutil.copytree(folder / "run/model", folder / "run/other")
    spoil("run/other/generator.safetensors")(folder)
    card = folder / "run/other/model.json"
    digest = hashlib.sha256((folder / "run/other/generator.safetensors").read_bytes()).hexdigest()
    old = card.read_text().split('"generator_sha256": "')[1][:64]
    text = card.read_text().replace(old, digest)
    card.unlink()
    card.write_text(text)


def cut(name: str) -> Callable[[Path], None]:
    """Keep the first half of a file."""

    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / name).write_bytes(content[: len(content) // 2])

    return change


def empty_card(folder: Path) -> None:
    (folder / "other").mkdir()
    (folder / "other/model.json").write_text("{}")


def folder_in_the_way(folder: Path) -> None:
    (folder / "folder.png").mkdir()


def cut_card(folder: Path) -> None:
    (folder / "run/model/model.json").unlink()
    (folder / "run/model/model.json").write_text('{"a": ')


RAW, NOT_OURS, SCORED = (
    "data/fashion-mnist",
    "photos is there and was not written by",
    ["run/evaluation", "run/new.json"],
)
PREPARE, PREPARE_RAW = ["prepare", RAW, "run/prepared"], ["prepare", "raw", "run/prepared"]
REFERENCE = ["reference", "run/prepared", "run/reference"]
TRAIN, EVALUATE = ["train", "run/prepared", "run/new"], ["evaluate", "run/model", "run/reference", "run/evaluation"]
CASES: dict[str, tuple[list[str], int, str, Callable[[Path], None] | None]] = {
    "unknown key": ([*PREPARE, "--set", "data.resolutoin=28"], 2, "did you mean resolution?", None),
    "unknown section": ([*PREPARE, "--set", "dta.seed=1"], 2, "did you mean data?", None),
    "bad value": ([*PREPARE, "--set", "data.channels=2"], 2, "data.channels is 2", None),
    "malformed override": ([*PREPARE, "--set", "seed"], 2, "not of the form section.key=value", None),
    "no parameter file": ([*PREPARE, "--params", "none.yaml"], 2, "give one with --params", None),
    "too short a run": ([*TRAIN, "--set", "train.total_images=1"], 2, "less than one step", None),
    "no raw data": (["prepare", "data/none", "run/prepared"], 1, "data/none", None),
    "truncated data": (PREPARE, 1, "train-images-idx3-ubyte.gz", truncated),
    "labels of other images": (PREPARE, 1, "9 images", other_labels),
    "pickled data": (["prepare", "raw", "run/prepared"], 1, "images.npy", pickled),
    "broken images": ([*PREPARE_RAW, "--set", "data.held_out=0.5"], 1, "max_rejected_fraction", broken_images),
    "unknown class": ([*PREPARE, "--set", "data.classes=[hat]"], 1, "hat", None),
    "no images": (PREPARE_RAW, 1, "holds no image", lambda folder: (folder / "raw").mkdir()),
    "somebody's folder": (["prepare", RAW, "photos"], 1, NOT_OURS, photos),
    "somebody's model folder": (["train", "run/prepared", "photos"], 1, NOT_OURS, photos),
    "output in the raw data": (["prepare", RAW, f"{RAW}/prepared"], 2, "lie one in the other", None),
    "truncated images": (TRAIN, 1, "images.npy is damaged", cut("run/prepared/images.npy")),
    "flipped images": (TRAIN, 1, "images.npy is damaged", spoil("run/prepared/images.npy")),
    "lost labels": (REFERENCE, 1, "labels.npy is missing", lambda f: (f / "run/prepared/labels.npy").unlink()),
    "somebody's card": (["sample", "other"], 1, "was not written by `ganflow train`", empty_card),
    "bad YAML in an override": ([*PREPARE, "--set", "data.seed=["], 2, "is not a YAML value", None),
    "binary parameters": ([*PREPARE, "--params", f"{RAW}/t10k-labels-idx1-ubyte.gz"], 2, "is not YAML", None),
    "output is a folder": (["sample", "run/model", "--out", "folder.png"], 1, "folder.png", folder_in_the_way),
    "unfinished input": (["train", "run", "run/new"], 1, "run `ganflow prepare` first", None),
    "damaged weights": (EVALUATE, 1, "generator.safetensors is damaged", spoil("run/model/generator.safetensors")),
    "damaged reference": (EVALUATE, 1, "stats.npz is damaged", spoil("run/reference/stats.npz")),
    "damaged network": (EVALUATE, 1, "extractor.safetensors is damaged", spoil("run/reference/extractor.safetensors")),
    "damaged card": (EVALUATE, 1, "model.json is damaged", cut_card),
    "scores of another model": (["register", "run/other", *SCORED], 1, "evaluate` on this model first", another_model),
    "nothing to draw": (["sample", "run/model", "-n", "0"], 2, "-n 1 or more", None),
    "unknown picture": (["sample", "run/model", "--out", "grid.gif"], 2, "a .png or .npy", None),
    "somebody's pictures": (["sample", "run/model", "--out", "photos"], 2, "photos holds something else", photos),
    "unknown version": (["promote", "--version", "99"], 1, "has no whole models:/tiny/99", None),
    "unknown model": (["promote", "--set", "register.name=none"], 1, "none has no version with the alias", None),
    "unknown registered model": (["sample", "models:/none@champion"], 1, "has no whole models:/none@champion", None),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_bad_input(case, project, tmp_path, monkeypatch, capsys):
    arguments, code, message, change = CASES[case]
    folder = tmp_path / "project"
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns(".dvc"))
    if change:
        change(folder)
    before = tree(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    assert main(arguments) == code
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]
    assert said[-1].startswith("ganflow: ")
    assert not any("Traceback" in line for line in said)
    assert tree(folder) == before


@pytest.mark.parametrize("arguments", [[], ["fly"], ["prepare"], ["sample", "m", "-n", "many"]])
def test_bad_usage_exits_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: ganflow" in capsys.readouterr().err


ADDRESSES = {
    "mlflow:5000": "set it to http://mlflow:5000",
    "10.0.0.1:5000/": "set it to http://10.0.0.1:5000/",
    "http://[::1": "is no URL (Invalid IPv6 URL)",
}


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("verb", ["doctor", "history"])
def test_an_address_that_is_none(monkeypatch, capsys, verb, address):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    assert main([verb]) == 2
    assert ADDRESSES[address] in capsys.readouterr().err


def test_a_server_that_is_not_there_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    shutil.copy(Path(__file__).parent.parent / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["promote"]) == 1
    assert "MLflow at http://127.0.0.1:9 says" in capsys.readouterr().err

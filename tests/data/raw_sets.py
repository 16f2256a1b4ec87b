"""Makers of real raw sets, and one call of the step."""

import gzip
import io
import json
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from PIL import Image

from ganflow.config import Data
from ganflow.data import prepare
from ganflow.errors import DataError

T = TypeVar("T")


def pixels(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Noise, uint8 (n, *shape)."""
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


def encoded(image: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def idx(array: np.ndarray) -> bytes:
    return np.array([0x800 + array.ndim, *array.shape], ">i4").tobytes() + array.astype(np.uint8).tobytes()


def zipped(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def photos(n: int = 10, prefix: str = "") -> dict[str, bytes]:
    """n grey PNG files of 28x28."""
    return {f"{prefix}{i:02}.png": encoded(image) for i, image in enumerate(pixels(n, 28, 28))}


def mnist(n: int = 20, compress: bool = False) -> dict[str, bytes]:
    """The four files of a set of the MNIST family with 3 classes, n train and n / 2 held-out images."""
    files = {}
    for split, count in (("train", n), ("t10k", n // 2)):
        files[f"{split}-images-idx3-ubyte"] = idx(pixels(count, 28, 28, seed=count))
        files[f"{split}-labels-idx1-ubyte"] = idx(np.arange(count) % 3)
    return {f"{name}.gz": gzip.compress(data, mtime=0) for name, data in files.items()} if compress else files


def run(raw: Path, **settings: Any) -> tuple[dict[str, Any], np.ndarray, np.ndarray | None]:
    """Prepare, with `data.held_out` 0.2 unless told; return the card, the images and the labels."""
    out = raw.parent / "out"
    card = prepare(raw, out, Data(**{"held_out": 0.2} | settings), lambda done, total: None)
    assert json.loads((out / "dataset.json").read_text()) == card
    labels = np.load(out / "labels.npy") if (out / "labels.npy").exists() else None
    return card, np.load(out / "images.npy"), labels


def refused(raw: Path, **settings: Any) -> str:
    """Expect a DataError of one sentence that leaves `out` as it was; return the sentence."""
    out = raw.parent / "before"
    before = {"dataset.json": b'{"made_by": "ganflow prepare"}', "images.npy": b"of the last run"}
    write(out, before)
    around = set(raw.parent.iterdir())
    with pytest.raises(DataError) as caught:
        prepare(raw, out, Data(**{"held_out": 0.2} | settings), lambda done, total: None)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert set(raw.parent.iterdir()) == around
    message = str(caught.value)
    assert "\n" not in message
    assert ". " not in message
    assert ";" in message, "the problem; the correction"
    return message


def traced(work: Callable[[], T]) -> tuple[T, int]:
    """What `work` returns, and the most bytes that Python held meanwhile."""
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def rejected(card: dict[str, Any]) -> dict[str, str]:
    """The reason of each rejected file."""
    assert card["rejected_count"] == len(card["rejected"])
    return {rejection["file"]: rejection["reason"] for rejection in card["rejected"]}

"""A plain folder of images: every PNG, JPEG and WebP file in it, whatever its name and size."""

import hashlib
from collections.abc import Iterator
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ganflow.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
BATCH = 32


class File(NamedTuple):
    """An image file. Files in this order are in the order of their content: names and places mean nothing."""

    size: tuple[int, int]
    sha256: str
    lossy: bool
    path: Path


def list_images(folder: Path) -> list[File]:
    """All the image files under `folder`, in the order of their size and content.

    Raises DataError when there is no such folder, when it has no images, and for a file that is none.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder; give a folder of PNG, JPEG or WebP images")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise DataError(f"{folder} holds no image; give a folder of PNG, JPEG or WebP files")
    return sorted(map(_file, paths))


def batches(files: list[File]) -> Iterator[Tensor]:
    """uint8 RGB images (n, 3, H, W), n up to BATCH, of one size each; grey is repeated, transparency is on black.

    Raises DataError for a file that is broken, or cut short.
    """
    for _, same in groupby(files, key=lambda file: file.size):
        group = list(same)
        for first in range(0, len(group), BATCH):
            pixels = np.stack([_pixels(file.path) for file in group[first : first + BATCH]])
            yield torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())


def content_hash(files: list[File]) -> str:
    """sha256 of the content of all the files, the same for any names and order."""
    return hashlib.sha256("".join(sorted(file.sha256 for file in files)).encode()).hexdigest()


def _file(path: Path) -> File:
    data = path.read_bytes()
    try:
        with Image.open(BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
            # Pillow does not tell a lossless WebP from a lossy one: the chunk's name does.
            lossy = image.format == "JPEG" or b"VP8 " in data[:64]
            return File(image.size, hashlib.sha256(data).hexdigest(), lossy, path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _broken(path) from error


def _pixels(path: Path) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
            if image.mode.startswith(("I", "F")):
                raise DataError(f"{path} has the mode {image.mode}, not 8 bits a channel; convert it to 8 bits")
            if image.has_transparency_data:
                black = Image.new("RGBA", image.size, "black")
                return np.asarray(Image.alpha_composite(black, image.convert("RGBA")).convert("RGB"))
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise _broken(path) from error


def _broken(path: Path) -> DataError:
    return DataError(f"{path} is not a whole image; mend or remove it")

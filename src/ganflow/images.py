"""Arrays of images: the prepared ones, and pictures of many."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganflow.artifacts import Prepared, atomic, check_hash

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


def open_prepared(prepared: Prepared) -> tuple[Images, Labels | None, dict[str, Any]]:
    """Memory-mapped images (N, C, R, R), labels (N,) if there are any, and the card.

    Raises ArtifactError when the folder is unfinished, or a file's md5 is not what the card says.
    """
    card = prepared.read_card()
    check_hash(prepared.images, card["images_md5"], Prepared.MAKER, "md5")
    images = np.load(prepared.images, mmap_mode="r")
    if card["labels_md5"] is None:
        return images, None, card
    check_hash(prepared.labels, card["labels_md5"], Prepared.MAKER, "md5")
    return images, np.load(prepared.labels, mmap_mode="r"), card


def grid(images: Images, columns: int | None = None, gap: int = 2) -> Images:
    """Lay uint8 images (N,C,H,W) out row by row on white, `gap` pixels apart; returns (H', W', C)."""
    n, channels, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, channels), 255, dtype=np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return sheet


def write_png(path: Path, pixels: Images, scale: int = 1) -> None:
    """Write (H, W, 1 or 3) pixels as a PNG, each pixel `scale` wide; whole or not at all."""
    picture = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    if scale > 1:
        picture = picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    with atomic(path) as partial:
        picture.save(partial, format="PNG")

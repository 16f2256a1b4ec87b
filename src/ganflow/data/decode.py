"""From a file's bytes, or from pixels, to images of the wanted size and channels."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ganflow.config import Data
from ganflow.data.raw import MAX_PIXELS, Rejected

FORMATS = ("PNG", "JPEG", "WEBP")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


class Picture(NamedTuple):
    """A decoded image, and what it was before."""

    image: Image.Image
    """Of the wanted size and channels."""
    size: tuple[int, int]
    mode: str


def decode(data: bytes, settings: Data) -> Picture:
    """Decode a PNG, JPEG or WebP file. Raises Rejected.

    The result depends on nothing but the arguments. Of an animation it is the first picture.
    """
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            _check(image.size, image.mode, settings)
            if any("16" in str(tile.args) for tile in image.tile):
                raise Rejected("has 16 bits a channel, not 8")
            mode = image.mode
            image.load()
            if image.info:  # where an orientation would stand
                ImageOps.exif_transpose(image, in_place=True)
            return Picture(_fit(image, settings), image.size, mode)
    except Rejected:
        raise
    except Image.DecompressionBombError as error:
        raise Rejected(f"is above {MAX_PIXELS} pixels, a decompression bomb") from error
    except Exception as error:  # at damaged bytes, the decoders raise nearly everything there is
        raise Rejected("is broken or cut short") from error


def decode_array(images: NDArray[np.uint8], settings: Data) -> NDArray[np.uint8]:
    """Bring uint8 pixels (n, H, W, C) to uint8 (n, C, H, W) of the wanted size. Raises Rejected, for all n."""
    _, height, width, channels = images.shape
    _check((width, height), "RGB", settings)
    if (height, width, channels) == (settings.resolution, settings.resolution, settings.channels):
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    pixels = images[..., 0] if channels == 1 else images
    out = np.empty((len(images), *settings.image_shape), np.uint8)
    for image, place in zip(pixels, out, strict=True):
        write(_fit(Image.fromarray(image), settings), place)
    return out


def write(image: Image.Image, out: NDArray[np.uint8]) -> None:
    """Write an image of the wanted size and channels to uint8 (C, H, W)."""
    channels, height, width = out.shape
    out[...] = np.frombuffer(image.tobytes(), np.uint8).reshape(height, width, channels).transpose(2, 0, 1)


def lossy(data: bytes) -> bool:
    """Whether these are the bytes of a JPEG, or of a WebP that is not lossless."""
    return data.startswith(b"\xff\xd8\xff") or (data.startswith(b"RIFF") and b"VP8 " in data[:64])


@contextmanager
def quiet() -> Iterator[None]:
    """Without Pillow's doubts about metadata; its doubt about size is checked here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check(size: tuple[int, int], mode: str, settings: Data) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise Rejected(f"is {width}x{height}, above {MAX_PIXELS} pixels, a decompression bomb")
    if min(size) < settings.min_size:
        raise Rejected(f"is {width}x{height} pixels, a side below data.min_size {settings.min_size}")
    if mode not in MODES:
        raise Rejected(f"has the mode {mode}, not one of {', '.join(MODES)}")


def _fit(image: Image.Image, settings: Data) -> Image.Image:
    """Crop, flatten and resize; an image that has the size already keeps its pixels."""
    side = min(image.size)
    if settings.crop == "center" and image.size != (side, side):
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    mode, size = "L" if settings.channels == 1 else "RGB", (settings.resolution, settings.resolution)
    flat = _flatten(image)
    flat = flat if flat.mode == mode else flat.convert(mode)
    return flat if flat.size == size else flat.resize(size, Image.Resampling.LANCZOS)


def _flatten(image: Image.Image) -> Image.Image:
    """Without transparency: on black."""
    if not image.has_transparency_data:
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))

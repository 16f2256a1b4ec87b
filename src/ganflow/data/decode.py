"""From a file's bytes, or from pixels, to images of the wanted size and channels."""

import warnings
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ganflow.config import Data
from ganflow.data.raw import MAX_PIXELS, Rejected

FORMATS = ("PNG", "JPEG", "WEBP")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA")


def decode(data: bytes, settings: Data) -> NDArray[np.uint8]:
    """Decode a PNG, JPEG or WebP file to uint8 (C, H, W). Raises Rejected; depends on nothing but its arguments."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's doubts about metadata; its doubt about size is checked here
        try:
            with Image.open(BytesIO(data), formats=FORMATS) as image:
                _check(image.size, image.mode, settings)
                upright = ImageOps.exif_transpose(image)
            return _fit(upright, settings)
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
    return np.stack([_fit(Image.fromarray(image), settings) for image in pixels])


def _check(size: tuple[int, int], mode: str, settings: Data) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise Rejected(f"is {width}x{height}, above {MAX_PIXELS} pixels, a decompression bomb")
    if min(size) < settings.min_size:
        raise Rejected(f"is {width}x{height} pixels, a side below data.min_size {settings.min_size}")
    if mode not in MODES:
        raise Rejected(f"has the mode {mode}, not one of {', '.join(MODES)}")


def _fit(image: Image.Image, settings: Data) -> NDArray[np.uint8]:
    """Crop, flatten and resize; an image that has the size already keeps its pixels."""
    if settings.crop == "center":
        side = min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    flat = _flatten(image).convert("L" if settings.channels == 1 else "RGB")
    small = flat.resize((settings.resolution, settings.resolution), Image.Resampling.LANCZOS)
    pixels = np.asarray(small).reshape(settings.resolution, settings.resolution, settings.channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _flatten(image: Image.Image) -> Image.Image:
    """Without transparency: on black."""
    if not image.has_transparency_data:
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))

"""A short signature of an image's look: equal images have equal ones, and similar images similar ones."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ganflow.images import Images

SIDE = 8
"""The signature is the image's lowest SIDE x SIDE frequencies, without the mean."""
LENGTH = SIDE * SIDE
LEVELS = 127
Signatures = NDArray[np.int8]


def signatures(images: Images) -> Signatures:
    """int8 (n, 64) of uint8 images (n, C, R, R).

    The lowest 8 x 8 coefficients of the grey image's discrete cosine transform, of which the perceptual hash (Zauner
    2010) keeps the signs, scaled so that the largest of them, without the mean, is 127. The first entry, in the mean's
    place, is the standard deviation of the grey values: 0 only for a constant image, at most 127.
    """
    total = images[:, 0].astype(np.uint16)  # whole numbers add faster than the same as floats, and as exactly
    for channel in range(1, images.shape[1]):
        total += images[:, channel]
    grey = total.astype(np.float32)
    grey /= images.shape[1]
    rows = cosines(images.shape[3])
    low = (rows @ grey @ rows.T).reshape(len(images), LENGTH)
    low[:, 0] = 0
    top = np.abs(low).max(axis=1, keepdims=True)
    found = np.rint(low * (LEVELS / np.maximum(top, 1e-3)))
    spread = grey.reshape(len(images), -1).std(axis=1)
    found[:, 0] = np.minimum(np.ceil(spread), LEVELS)
    low_spread = np.flatnonzero(found[:, 0] == 1)  # a constant image's, too, where floats have rounded its mean
    found[low_spread, 0] = np.ptp(total[low_spread], axis=(1, 2)) > 0
    whole: Signatures = found.astype(np.int8)
    return whole


@lru_cache(maxsize=2)
def cosines(size: int) -> NDArray[np.float32]:
    """The first SIDE rows (SIDE, size) of the orthonormal DCT-II."""
    angles = np.pi / size * np.outer(np.arange(SIDE), np.arange(size) + 0.5)
    scale = np.full((SIDE, 1), np.sqrt(2 / size))
    scale[0] = np.sqrt(1 / size)
    return (scale * np.cos(angles)).astype(np.float32)

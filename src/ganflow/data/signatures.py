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
    grey = images.mean(axis=1, dtype=np.float32) if images.shape[1] > 1 else images[:, 0].astype(np.float32)
    rows = cosines(images.shape[3])
    low = (rows @ grey @ rows.T).reshape(len(images), LENGTH)
    low[:, 0] = 0
    top = np.abs(low).max(axis=1, keepdims=True)
    found = np.rint(low * (LEVELS / np.maximum(top, 1e-3)))
    spread = grey.reshape(len(images), -1).std(axis=1)
    found[:, 0] = np.minimum(np.ceil(spread), LEVELS)
    whole: Signatures = found.astype(np.int8)
    return whole


@lru_cache(maxsize=2)
def cosines(size: int) -> NDArray[np.float32]:
    """The first SIDE rows (SIDE, size) of the orthonormal DCT-II."""
    angles = np.pi / size * np.outer(np.arange(SIDE), np.arange(size) + 0.5)
    scale = np.full((SIDE, 1), np.sqrt(2 / size))
    scale[0] = np.sqrt(1 / size)
    return (scale * np.cos(angles)).astype(np.float32)

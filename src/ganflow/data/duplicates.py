"""Images that are there twice, found by their signatures in time that is nearly linear in their number."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from ganflow.data.raw import Indices
from ganflow.data.signatures import LENGTH, SIDE, Signatures
from ganflow.images import AnyImages

TABLES, WINDOW = 8, 8
NEAR_BITS = 12
SIMILARITY = 0.998
"""Cosine of the signatures above which two images are near duplicates: re-encoded, resized or brightened ones are."""
Pairs = Indices
"""(m, 2), i < j in each row, rows ascending, none twice."""


def exact_duplicates(images: AnyImages, found: Signatures) -> Pairs:
    """Images that equal an earlier one, each with the first of its kind; only those of equal signatures are read."""
    keys = np.ascontiguousarray(found).view(f"V{LENGTH}").ravel()
    order = np.argsort(keys, kind="stable")
    equal = keys[order][1:] == keys[order][:-1]
    pairs = []
    for group in np.split(order, np.flatnonzero(~equal) + 1):
        first: dict[bytes, int] = {}
        for i in group.tolist() if len(group) > 1 else ():
            earlier = first.setdefault(hashlib.sha256(images[i].tobytes()).digest(), i)
            if earlier != i:
                pairs.append((earlier, i))
    return _distinct(np.array(pairs, np.int64).reshape(-1, 2))


def near_duplicates(found: Signatures) -> Pairs:
    """Pairs of images whose signatures are alike, equal ones among them; blank images are like none.

    The sorted neighbourhood (Hernandez and Stolfo 1995): the signs of the frequencies, beginning with another one in
    each of 8 tables, are sorted, and each image is compared with the 8 behind it.
    """
    look = np.flatnonzero(found[:, 0] > 0)
    vectors = found[look, 1:].astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    signs = vectors[:, _low_first()] > 0
    pairs = [np.empty((0, 2), np.int64)]
    for table in range(TABLES):
        turned = np.packbits(np.roll(signs, -table * LENGTH // TABLES, axis=1), axis=1)
        bits = np.ascontiguousarray(turned).view(">u8").ravel().astype(np.uint64)
        order = np.argsort(bits, kind="stable")
        bits = bits[order]
        for step in range(1, min(WINDOW + 1, len(order))):
            near = np.flatnonzero(np.bitwise_count(bits[step:] ^ bits[:-step]) <= NEAR_BITS)
            pairs.append(_alike(vectors, np.stack([order[near], order[near + step]], axis=1)))
    return _distinct(look[np.concatenate(pairs)])


def _alike(vectors: NDArray[np.float32], pairs: Pairs) -> Pairs:
    alike: Pairs = pairs[np.einsum("nd,nd->n", vectors[pairs[:, 0]], vectors[pairs[:, 1]]) >= SIMILARITY]
    return alike


def _low_first() -> list[int]:
    """Entries of a signature without the first, the lowest frequencies first: what survives most."""
    places = sorted(range(1, LENGTH), key=lambda place: place // SIDE + place % SIDE)
    return [place - 1 for place in places]


def _distinct(pairs: Pairs) -> Pairs:
    distinct: Pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    return distinct

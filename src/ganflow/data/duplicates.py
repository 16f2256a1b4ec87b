"""Images that are there twice, found by their signatures in time that is nearly linear in their number."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from ganflow.data.raw import Indices
from ganflow.data.signatures import LENGTH, SIDE, Signatures
from ganflow.images import AnyImages

TABLES, WINDOW = 8, 8
NEAR_BITS = 12
PIECE = 1 << 14
"""Signatures that are looked at together: memory grows by little more than the signatures themselves."""
SIMILARITY = 0.998
"""Cosine of the signatures above which two images are near duplicates: re-encoded, resized or brightened ones are."""
Pairs = Indices
"""(m, 2), i < j in each row, rows ascending, none twice."""


def exact_duplicates(images: AnyImages, found: Signatures) -> Pairs:
    """Images that equal an earlier one, each with the first of its kind; only those of equal signatures are read."""
    pairs: list[tuple[int, int]] = []
    first: dict[bytes, int] = {}
    before = -1
    for kind, i in _equal(found):
        if kind != before:
            first, before = {hashlib.sha256(images[kind].tobytes()).digest(): kind}, kind
        earlier = first.setdefault(hashlib.sha256(images[i].tobytes()).digest(), i)
        if earlier != i:
            pairs.append((earlier, i))
    return _distinct(np.array(pairs, np.int64).reshape(-1, 2))


def near_duplicates(found: Signatures) -> Pairs:
    """Pairs of images whose signatures are alike; blank images are like none.

    The sorted neighbourhood (Hernandez and Stolfo 1995): the signs of the frequencies, beginning with another one in
    each of 8 tables, are sorted, and each image is compared with the 8 behind it. Of images with equal signatures the
    first stands for all, and each of the others is paired with it.
    """
    seen = found[:, 0] > 0
    equal = _equal(found)
    equal = equal[seen[equal[:, 1]]]
    seen[equal[:, 1]] = False
    look = np.flatnonzero(seen)
    signs = _signs(found, look)
    pairs = np.empty((0, 2), np.int64)
    for table in range(TABLES):
        bits = _turned(signs, table * LENGTH // TABLES)
        order = np.argsort(bits, kind="stable")
        bits = bits[order]
        for step in range(1, min(WINDOW + 1, len(order))):
            near = np.flatnonzero(np.bitwise_count(bits[step:] ^ bits[:-step]) <= NEAR_BITS)
            alike = _alike(found, look[np.stack([order[near], order[near + step]], axis=1)])
            pairs = _distinct(np.concatenate([pairs, alike]))
    return _distinct(np.concatenate([pairs, equal]))


def _signs(found: Signatures, look: Indices) -> NDArray[np.uint64]:
    """The signs of these (n,) signatures, the lowest frequencies first: what survives most. The last bit is 0."""
    low_first = sorted(range(1, LENGTH), key=lambda place: place // SIDE + place % SIDE)
    signs = np.empty(len(look), np.uint64)
    for first in range(0, len(look), PIECE):
        some = look[first : first + PIECE]
        packed = np.packbits(found[some][:, low_first] > 0, axis=1)
        signs[first : first + PIECE] = np.ascontiguousarray(packed).view(">u8").ravel()
    return signs


def _turned(signs: NDArray[np.uint64], count: int) -> NDArray[np.uint64]:
    """So many signs from the front to the back."""
    back = signs >> np.uint64(LENGTH - 1 - count)
    back &= ~np.uint64(1)
    back |= signs << np.uint64(count)
    return back


def _equal(found: Signatures) -> Pairs:
    """Images whose signature equals an earlier one's, each with the first of its kind; in the order of their kinds."""
    keys = np.ascontiguousarray(found).view(f"V{LENGTH}").ravel()
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    again = np.r_[False, keys[1:] == keys[:-1]]
    kinds = np.flatnonzero(~again)[np.cumsum(~again) - 1]
    return np.stack([order[kinds[again]], order[again]], axis=1)


def _alike(found: Signatures, pairs: Pairs) -> Pairs:
    """Those of the pairs (m, 2) whose signatures have a high cosine."""
    alike = [pairs[:0]]
    for first in range(0, len(pairs), PIECE):
        some = pairs[first : first + PIECE]
        one, other = (_directions(found[some[:, side]]) for side in (0, 1))
        alike.append(some[np.einsum("nd,nd->n", one, other) >= SIMILARITY])
    return np.concatenate(alike)


def _directions(found: Signatures) -> NDArray[np.float32]:
    """(n, 63), of length 1."""
    vectors = found[:, 1:].astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _distinct(pairs: Pairs) -> Pairs:
    distinct: Pairs = np.unique(np.sort(pairs, axis=1), axis=0)
    return distinct

"""Randomness without state: every number is a function of (seed, stream, index).

A resumed run, a re-sharded run and a run on another device ask for the same indices and get the same numbers.
The generator is Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") in int64 tensor
operations, so that it runs on any device without a host synchronisation.
"""

import math
from enum import IntEnum

import torch
from torch import Tensor

MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
CHUNK = 1 << 16
"""Keys of a permutation made at a time."""


class Stream(IntEnum):
    """What the numbers are for; two streams share no number."""

    ORDER = 0
    LATENTS = 1
    SAMPLES = 3
    INITIAL_WEIGHTS = 4
    LAYERS = 5
    EXTRACTOR = 6
    HELD_OUT = 7
    AUGMENT = 8
    PENALTY = 9
    ONLINE = 10
    CLASSES = 11
    EVALUATION = 20


def philox(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox4x32-10 of int64 tensors that hold 32-bit words; the four broadcast against each other."""
    a, b, c, d = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        # The product of two 32-bit words wraps modulo 2^64; masking after the shift gives its true high word.
        p0, p1 = a * MULTIPLIERS[0], c * MULTIPLIERS[1]
        a, b, c, d = (p1 >> 32) & MASK ^ b ^ k0, p1 & MASK, (p0 >> 32) & MASK ^ d ^ k1, p0 & MASK
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return a, b, c, d


def words(seed: int, stream: Stream, index: Tensor, blocks: int, epoch: int = 0) -> Tensor:
    """32-bit words for each index: int64 (len(index), 4 * blocks) in [0, 2^32).

    The counter is (block, index low, index high, stream with epoch), the key is the seed.
    """
    index = index.to(torch.int64).unsqueeze(1)
    block = torch.arange(blocks, device=index.device).unsqueeze(0)
    tag = torch.full_like(index, int(stream) | epoch << 8)
    # Each round mixes words across, so all four leave with the broadcast shape.
    out = philox((block, index & MASK, index >> 32, tag), (seed & MASK, seed >> 32 & MASK))
    return torch.stack(out, dim=2).flatten(1)


def normal(seed: int, stream: Stream, index: Tensor, size: int) -> Tensor:
    """Standard normal float32 (len(index), size) by Box-Muller, computed in float64 so that devices agree."""
    bits = words(seed, stream, index, math.ceil(size / 4)).to(torch.float64)
    radius = ((bits[:, 0::2] + 0.5) * 2**-32).log().mul(-2).sqrt()
    angle = bits[:, 1::2] * (2 * math.pi * 2**-32)
    pairs = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=2)
    return pairs.flatten(1)[:, :size].to(torch.float32)


def uniform(seed: int, stream: Stream, index: Tensor, size: int) -> Tensor:
    """Uniform float32 (len(index), size) in [0, 1), on a grid of 2^-24."""
    bits = words(seed, stream, index, math.ceil(size / 4))[:, :size]
    return (bits >> 8).to(torch.float32) * 2**-24


def permutation(seed: int, stream: Stream, n: int, epoch: int = 0) -> Tensor:
    """A permutation of range(n), int64 (n,): the order of 62-bit random keys; 32 bytes of memory a number."""
    keys = torch.cat([_keys(seed, stream, index, epoch) for index in torch.split(torch.arange(n), CHUNK)])
    return torch.argsort(keys, stable=True)


def _keys(seed: int, stream: Stream, index: Tensor, epoch: int) -> Tensor:
    bits = words(seed, stream, index, 1, epoch)
    return bits[:, 0] << 30 | bits[:, 1] >> 2


def derived_seed(seed: int, stream: Stream, index: int = 0) -> int:
    """A 62-bit seed for torch's own generator, where a library draws its numbers itself."""
    bits = words(seed, stream, torch.tensor([index]), 1)[0]
    return int(bits[0] << 30 | bits[1] >> 2)

"""Moments in pieces: merged by Chan's rule, the same bits whatever the pieces."""

import concurrent.futures
import itertools
import multiprocessing

import numpy as np
import pytest

from ganflow.errors import ArtifactError
from ganflow.metrics import Moments, moments
from ganflow.metrics.moments import BLOCK

N = 5 * BLOCK + 77


def features() -> np.ndarray:
    return (np.random.default_rng(0).normal(size=(N, 12)) * 3 + 1000).astype(np.float32)


def of_blocks(blocks: list[int]) -> Moments:
    """What one process sees: these blocks."""
    sums, rows = Moments(), features()
    for block in blocks:
        sums.add(block, rows[block * BLOCK : (block + 1) * BLOCK])
    return sums


def same(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_against_numpy() -> None:
    rows = features().astype(np.float64)
    mu, sigma = moments(features())
    np.testing.assert_allclose(mu, rows.mean(0), rtol=1e-14)
    np.testing.assert_allclose(sigma, np.cov(rows, rowvar=False), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("order", list(itertools.permutations(range(6)))[::97])
def test_blocks_in_any_order_give_the_same_bits(order: tuple[int, ...]) -> None:
    assert same(of_blocks(list(order)).result(), moments(features()))


@pytest.mark.slow
@pytest.mark.parametrize("shares", [[[0, 1, 2, 3, 4, 5]], [[0, 2, 4], [1, 3, 5]], [[5, 0], [3], [1, 4, 2]]])
def test_any_number_of_processes_gives_the_same_bits(shares: list[list[int]]) -> None:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(len(shares), mp_context=context) as pool:
        parts = list(pool.map(of_blocks, shares))
    for first in range(len(parts)):
        total = Moments()
        for part in (*parts[first:], *parts[:first]):
            total.merge(part)
        assert same(total.result(), moments(features()))


def test_memory_is_logarithmic() -> None:
    assert len(of_blocks([0, 1, 2, 3])._nodes) == 1


def test_nothing_at_all() -> None:
    with pytest.raises(ArtifactError, match="2 images or more, and there are 0"):
        moments(np.zeros((0, 4)))

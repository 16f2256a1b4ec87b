import numpy as np
import pytest
import torch

from ganflow.randomness import Stream, normal, permutation, philox, uniform, words


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_known_answers_of_random123(counter, key, expected):
    out = philox(tuple(torch.tensor(word) for word in counter), key)
    assert " ".join(f"{int(word):08x}" for word in out) == expected


def test_numbers_depend_on_the_index_alone():
    whole = normal(3, Stream.LATENTS, torch.arange(100), 10)
    assert torch.equal(whole[40:60], normal(3, Stream.LATENTS, torch.arange(40, 60), 10))
    assert torch.equal(whole[[7, 3]], normal(3, Stream.LATENTS, torch.tensor([7, 3]), 10))
    assert torch.equal(whole[:, :5], normal(3, Stream.LATENTS, torch.arange(100), 5))


def test_streams_seeds_and_epochs_share_no_numbers():
    index = torch.arange(1000)
    drawn = [words(0, Stream.ORDER, index, 1), words(0, Stream.SAMPLES, index, 1), words(1, Stream.ORDER, index, 1)]
    drawn += [words(0, Stream.ORDER, index, 1, epoch=1), words(1 << 40, Stream.ORDER, index, 1)]
    for i, one in enumerate(drawn):
        assert all((one != other).any(1).all() for other in drawn[i + 1 :])


def test_normal_is_standard_normal():
    z = normal(5, Stream.SAMPLES, torch.arange(50_000), 4).double().numpy()
    assert abs(z.mean()) < 0.01
    assert abs(z.std() - 1) < 0.01
    assert abs((z**4).mean() - 3) < 0.1
    assert np.abs(np.corrcoef(z.T) - np.eye(4)).max() < 0.02


def test_permutation_holds_every_index_once_and_changes_with_the_epoch():
    first, second = permutation(0, Stream.ORDER, 1000), permutation(0, Stream.ORDER, 1000, epoch=1)
    assert sorted(first.tolist()) == list(range(1000))
    assert not torch.equal(first, second)
    assert abs(np.corrcoef(first, np.arange(1000))[0, 1]) < 0.1


def test_uniform_numbers_are_uniform_and_below_one():
    numbers = uniform(0, Stream.AUGMENT, torch.arange(20_000), 5)
    assert numbers.shape == (20_000, 5)
    assert numbers.dtype == torch.float32
    assert numbers.min() >= 0
    assert numbers.max() < 1
    histogram = torch.histc(numbers, 10, 0, 1) / numbers.numel()
    assert torch.allclose(histogram, torch.full((10,), 0.1), atol=0.005)
    assert torch.equal(numbers[7:9], uniform(0, Stream.AUGMENT, torch.arange(7, 9), 5))

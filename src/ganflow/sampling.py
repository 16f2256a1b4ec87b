"""Images from a trained generator: image i of a seed is a function of (generator, seed, i) alone.

Convolution libraries choose their algorithm by batch size, so equal latents give unlike last bits in unlike batches.
Images are therefore always made in the same aligned chunks of 64, and cut to what is asked.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ganflow import randomness
from ganflow.artifacts import Model, check_hash
from ganflow.device import exact
from ganflow.images import Images
from ganflow.networks import build_generator
from ganflow.networks.conditional import ConditionalGenerator
from ganflow.parallel import World

CHUNK = 64


def load_generator(model: Model) -> tuple[nn.Module, int]:
    """The averaged generator of a model folder, in eval mode, and the length of its latents.

    Raises ArtifactError when the folder is unfinished, or the weights are not those that model.json names.
    """
    card = model.read_card()
    check_hash(model.generator, card["generator_sha256"], Model.MAKER)
    generator = build_generator(card["architecture"])
    generator.load_state_dict(load_file(model.generator))
    return generator.eval(), card["architecture"]["latent_dim"]


def sample(
    generator: nn.Module, latent_dim: int, seed: int, count: int, world: World | None = None
) -> Iterator[Tensor]:
    """Yield uint8 images (n, C, R, R) on the CPU, n <= 64, `count` in all; of many processes each has its `share`."""
    device = next(generator.parameters()).device
    for first in share(count, world or World()):
        index = torch.arange(first, first + CHUNK, device=device)
        latents = randomness.normal(seed, randomness.Stream.SAMPLES, index, latent_dim)
        yield render(generator, latents, draw_labels(generator, seed, index))[: count - first].cpu()


def share(count: int, world: World) -> range:
    """Numbers of the first images of this process's chunks, when its peers have the others."""
    return range(world.rank * CHUNK, count, world.size * CHUNK)


def draw_labels(generator: nn.Module, seed: int, index: Tensor) -> Tensor | None:
    """Classes int64 (n,), as frequent as in the training images; None for a generator that knows no classes."""
    if not isinstance(generator, ConditionalGenerator):
        return None
    uniforms = randomness.uniform(seed, randomness.Stream.CLASSES, index, 1).squeeze(1)
    sums = generator.frequencies.cpu().cumsum(0).to(index.device)  # a GPU would add in no fixed order
    classes = torch.searchsorted(sums, uniforms, right=True)
    return classes.clamp(max=len(generator.frequencies) - 1)  # the sum of the frequencies is rounded


@torch.no_grad()
def render(generator: nn.Module, latents: Tensor, labels: Tensor | None = None) -> Tensor:
    """Latents (n, latent_dim) to uint8 images (n, C, R, R): [-1, 1] to 0..255, rounded."""
    with exact():
        images: Tensor = generator(latents) if labels is None else generator(latents, labels)
    return images.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def sample_array(model: Path, seed: int, count: int) -> Images:
    """`count` uint8 images (count, C, R, R) of the model in a folder."""
    generator, latent_dim = load_generator(Model(model))
    chunks = [chunk.numpy() for chunk in sample(generator, latent_dim, seed, count)]
    return np.concatenate(chunks)

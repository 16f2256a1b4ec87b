"""Pictures of a generator for its report: samples, a walk between latents, nearest neighbours, classes.

Each is an array of pixels (H, W, C) for `images.write_png`.
"""

import numpy as np
import torch
from torch import Tensor, nn

from ganflow import randomness
from ganflow.images import Images, grid
from ganflow.sampling import CHUNK, render

STEPS = 8
"""Images of a walk, and rows of walks: together one CHUNK."""
PER_CLASS = 8
NEIGHBOURS = 16
LARGEST = 64


def interpolation(generator: nn.Module, latent_dim: int, seed: int, classes: int | None = None) -> Images:
    """STEPS rows, each a walk in STEPS images between two samples' latents, along the sphere that they lie on.

    White 2016, "Sampling generative networks": the straight line would leave the latents' own shell. The ends are
    samples 2i and 2i + 1 of `sampling.sample`; of a conditional generator, row i has the class i modulo `classes`.
    """
    device = next(generator.parameters()).device
    index = torch.arange(2 * STEPS, device=device)
    ends = randomness.normal(seed, randomness.Stream.SAMPLES, index, latent_dim).view(STEPS, 2, 1, latent_dim)
    part = torch.linspace(0, 1, STEPS, device=device).view(1, STEPS, 1)
    walks = _slerp(ends[:, 0], ends[:, 1], part).flatten(0, 1)
    labels = torch.arange(STEPS, device=device).repeat_interleave(STEPS)
    return grid(_render(generator, walks, labels, classes), columns=STEPS)


def class_grid(generator: nn.Module, latent_dim: int, seed: int, classes: int) -> Images:
    """A row a class, of the conditional generator called as (latents, labels); a column has one latent."""
    device = next(generator.parameters()).device
    index = torch.arange(PER_CLASS, device=device)
    latents = randomness.normal(seed, randomness.Stream.SAMPLES, index, latent_dim).repeat(classes, 1)
    labels = torch.arange(classes, device=device).repeat_interleave(PER_CLASS)
    return grid(_render(generator, latents, labels, classes), columns=PER_CLASS)


def beside(samples: Images, neighbours: Images) -> Images:
    """Images (n, C, R, R), each with its nearest real one (n, C, r, r) to the right; four pairs a row."""
    side = neighbours.shape[2]
    pairs = np.stack([_thumbnails(samples, side), neighbours], axis=1)
    return grid(pairs.reshape(-1, *neighbours.shape[1:]), columns=8)


def thumbnails(images: Images) -> Images:
    """uint8 images (n, C, R, R) of at most LARGEST pixels a side; R is LARGEST times a whole number, or smaller."""
    return _thumbnails(images, min(images.shape[2], LARGEST))


def _thumbnails(images: Images, side: int) -> Images:
    n, channels, size, _ = images.shape
    ratio = size // side
    blocks = images.reshape(n, channels, side, ratio, side, ratio)
    small: Images = blocks.mean(axis=(3, 5)).round().astype(np.uint8)
    return small


def _slerp(start: Tensor, end: Tensor, part: Tensor) -> Tensor:
    cosine = nn.functional.cosine_similarity(start, end, dim=-1).clamp(-1, 1).unsqueeze(-1)
    angle = cosine.acos()
    mixed = (torch.sin((1 - part) * angle) * start + torch.sin(part * angle) * end) / torch.sin(angle)
    straight = start + part * (end - start)
    return torch.where(torch.sin(angle) > 1e-4, mixed, straight)


def _render(generator: nn.Module, latents: Tensor, labels: Tensor, classes: int | None) -> Images:
    """uint8 images (n, C, R, R), made in chunks of CHUNK as `sampling` does."""
    parts = []
    for z, y in zip(torch.split(latents, CHUNK), torch.split(labels, CHUNK), strict=True):
        called = generator if classes is None else _OfClass(generator, y % classes)
        parts.append(render(called, z).cpu().numpy())
    return np.concatenate(parts)


class _OfClass(nn.Module):
    """A conditional generator with its labels (n,) given."""

    def __init__(self, generator: nn.Module, labels: Tensor) -> None:
        super().__init__()
        self.generator, self.labels = generator, labels

    def forward(self, latents: Tensor) -> Tensor:
        images: Tensor = self.generator(latents, self.labels)
        return images

"""R3GAN's residual networks (Huang, Gokaslan, Kuleshov and Tompkin 2024, "The GAN is dead; long live the GAN!").

No normalisation anywhere: blocks start as the identity (fix-up initialisation, Zhang et al. 2019), and the penalties R1
and R2 do the rest. Each side from 4 (7 for 28 pixels) to the image's has two residual blocks; `width` channels at the
image's side, twice as many at each smaller one, at most 768. The paper's networks are width 768 for CIFAR-10's 32x32,
384 for FFHQ's 64x64 and 96 for its 256x256, with latent_dim 64; a laptop does 32x32 at width 16.

Unlike the paper's, this G ends in tanh, as every generator here draws in [-1, 1].
"""

from collections.abc import Callable
from itertools import pairwise
from math import gcd, sqrt

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganflow.networks.discriminator import Discriminator
from ganflow.networks.stages import Double, Halve, stages

MOST = 768  # channels of the widest layers
GROUP = 16  # channels of a group in the 3x3 convolutions
BLOCKS = 2  # residual blocks at each side


class Block(nn.Module):
    """x + the branch: 1x1 to twice the channels, grouped 3x3, 1x1 back; LeakyReLU(0.2) and biases at the first two.

    Of `blocks` blocks in a network, the first two weights of each are scaled by blocks^-1/4, and the last is zero.
    """

    def __init__(self, channels: int, blocks: int) -> None:
        super().__init__()
        inner, gain = 2 * channels, sqrt(2 / (1 + 0.2**2)) * blocks**-0.25
        groups = inner // gcd(inner, GROUP)
        self.expand = scaled(nn.Conv2d(channels, inner, 1), gain)
        self.mix = scaled(nn.Conv2d(inner, inner, 3, padding=1, groups=groups), gain)
        self.project = scaled(nn.Conv2d(inner, channels, 1, bias=False), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to the same shape."""
        h = F.leaky_relu(self.expand(x), 0.2, inplace=True)
        h = F.leaky_relu(self.mix(h), 0.2, inplace=True)
        y: Tensor = x + self.project(h)
        return y


class Generator(nn.Module):
    """A learned smallest map, each channel scaled by a linear map of z; blocks and doublings; tanh."""

    per_sample = True
    stochastic = False

    def __init__(self, *, latent_dim: int, width: int, resolution: int, channels: int) -> None:
        super().__init__()
        side, wide = _widths(width, resolution)
        self.basis = nn.Parameter(torch.randn(wide[-1], side, side))
        self.scale = nn.Linear(latent_dim, wide[-1], bias=False)
        nn.init.normal_(self.scale.weight, std=latent_dim**-0.5)
        last = scaled(nn.Conv2d(wide[0], channels, 1, bias=False))
        self.layers = nn.Sequential(*_tower(wide[::-1], _double), last, nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        """Latents (N, latent_dim) to images (N, C, R, R) in [-1, 1]."""
        images: Tensor = self.layers(self.scale(z)[:, :, None, None] * self.basis)
        return images


def discriminator(*, width: int, resolution: int, channels: int, classes: int, norm: str) -> Discriminator:
    """The mirror: blocks and halvings, then one weighted sum of each channel's smallest map, and a logit of those."""
    side, wide = _widths(width, resolution)
    first = scaled(nn.Conv2d(channels, width, 1, bias=False))
    last = scaled(nn.Conv2d(wide[-1], wide[-1], side, groups=wide[-1], bias=False))
    trunk = nn.Sequential(first, *_tower(wide, _halve), last, nn.Flatten())
    for block in trunk.modules():
        if norm == "spectral" and isinstance(block, Block):  # a zero weight has no norm to divide by
            nn.init.kaiming_normal_(block.project.weight)
    return Discriminator(trunk, wide[-1], classes=classes, norm=norm)


def scaled(layer: nn.Conv2d, gain: float = 1.0) -> nn.Conv2d:
    """The layer with weights N(0, gain²/fan-in), and zero biases if any."""
    nn.init.normal_(layer.weight, std=gain / sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _widths(width: int, resolution: int) -> tuple[int, list[int]]:
    side, doublings = stages(resolution)
    return side, [min(width << i, max(width, MOST)) for i in range(doublings + 1)]


def _tower(wide: list[int], change: Callable[[int, int], nn.Module]) -> list[nn.Module]:
    """Two blocks at each side, and the change to the next side between."""
    blocks = BLOCKS * len(wide)
    layers: list[nn.Module] = [Block(wide[0], blocks) for _ in range(BLOCKS)]
    for before, after in pairwise(wide):
        layers += [change(before, after), *(Block(after, blocks) for _ in range(BLOCKS))]
    return layers


def _double(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(*_widen(inputs, outputs), Double())


def _halve(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(Halve(), *_widen(inputs, outputs))


def _widen(inputs: int, outputs: int) -> list[nn.Module]:
    return [] if inputs == outputs else [scaled(nn.Conv2d(inputs, outputs, 1, bias=False))]

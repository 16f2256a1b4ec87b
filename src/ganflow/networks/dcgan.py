"""DCGAN (Radford, Metz and Chintala 2016) at any resolution that is 28 or a power of two from 32.

The smallest feature map is 7x7 for 28 pixels and 4x4 else; each 4x4 stride-2 convolution doubles or halves the
side while the channels halve or double, and the layer nearest the image has `width`.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from ganflow.networks.discriminator import Discriminator
from ganflow.networks.stages import stages


def initialise(module: nn.Module) -> None:
    """The paper's weights: N(0, 0.02) for convolutions, N(1, 0.02) for batch norm, zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)


class Generator(nn.Module):
    """z to the smallest feature map, then doubled to the image; batch norm and ReLU between, tanh at the end."""

    per_sample = False
    stochastic = False

    def __init__(self, *, latent_dim: int, width: int, resolution: int, channels: int) -> None:
        super().__init__()
        side, doublings = stages(resolution)
        wide = [width << i for i in reversed(range(doublings))]
        self.project = nn.Linear(latent_dim, wide[0] * side**2, bias=False)
        self.shape = (wide[0], side, side)
        layers: list[nn.Module] = [nn.BatchNorm2d(wide[0]), nn.ReLU(inplace=True)]
        for inputs, outputs in pairwise(wide):
            layers += [_up(inputs, outputs, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, _up(wide[-1], channels, bias=True), nn.Tanh())
        initialise(self)

    def forward(self, z: Tensor) -> Tensor:
        """Latents (N, latent_dim) to images (N, C, R, R) in [-1, 1]."""
        smallest = self.project(z).unflatten(1, self.shape)
        # In the layout of the weights: else every layer's gradient is brought from one layout to the other.
        images: Tensor = self.layers(smallest.contiguous(memory_format=torch.channels_last))
        return images


def discriminator(*, width: int, resolution: int, channels: int, classes: int, norm: str) -> Discriminator:
    """The image halved to the smallest feature map, then one logit; LeakyReLU(0.2), batch norm but at the first.

    Any norm but "own" leaves batch norm out, and gives the convolutions the biases that it had in their place.
    """
    side, halvings = stages(resolution)
    wide = [width << i for i in range(halvings)]
    layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
    for inputs, outputs in pairwise(wide):
        layers += [*_down(inputs, outputs, batch_norm=norm == "own"), nn.LeakyReLU(0.2, inplace=True)]
    trunk = nn.Sequential(*layers, nn.Flatten())
    return Discriminator(trunk, wide[-1] * side**2, classes=classes, norm=norm, initialise=initialise)


def _down(inputs: int, outputs: int, batch_norm: bool) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=not batch_norm)
    return [convolution, nn.BatchNorm2d(outputs)] if batch_norm else [convolution]


def _up(inputs: int, outputs: int, bias: bool) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=bias)

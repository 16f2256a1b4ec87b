"""A pair without convolutions, of three hidden layers each (Goodfellow et al. 2014)."""

from itertools import pairwise

from torch import Tensor, nn

from ganflow.networks.discriminator import Discriminator


class Generator(nn.Module):
    """z -> 8 width -> 16 width -> 32 width -> C R R, LeakyReLU(0.2) between, tanh at the end.

    At width 32, latent_dim 100 and 28x28 grey: 100 -> 256 -> 512 -> 1024 -> 784.
    """

    per_sample = True
    stochastic = False

    def __init__(self, *, latent_dim: int, width: int, resolution: int, channels: int) -> None:
        super().__init__()
        sizes = [latent_dim, 8 * width, 16 * width, 32 * width]
        self.layers = nn.Sequential(*_hidden(sizes), nn.Linear(sizes[-1], channels * resolution**2), nn.Tanh())
        self.shape = (channels, resolution, resolution)

    def forward(self, z: Tensor) -> Tensor:
        """Latents (N, latent_dim) to images (N, C, R, R) in [-1, 1]."""
        images: Tensor = self.layers(z).unflatten(1, self.shape)
        return images


def discriminator(*, width: int, resolution: int, channels: int, classes: int, norm: str) -> Discriminator:
    """The generator's mirror: C R R -> 32 width -> 16 width -> 8 width -> one logit, LeakyReLU(0.2) between."""
    sizes = [channels * resolution**2, 32 * width, 16 * width, 8 * width]
    return Discriminator(nn.Sequential(nn.Flatten(), *_hidden(sizes)), sizes[-1], classes=classes, norm=norm)


def _hidden(sizes: list[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2, inplace=True)]
    return layers

"""A small convolutional pair without normalisation."""

from itertools import pairwise

from torch import Tensor, nn

from ganflow.networks.discriminator import Discriminator
from ganflow.networks.stages import stages


class Generator(nn.Module):
    """z to the smallest feature map, then nearest-neighbour doubling and a 3x3 convolution up to the image.

    Doubling and convolution in place of a transposed convolution leave no checkerboard (Odena et al. 2016). The layer
    nearest the image has `width` channels, the next 2 width, all others 4 width; tanh at the end, LeakyReLU(0.2)
    between.
    """

    per_sample = True
    stochastic = False

    def __init__(self, *, latent_dim: int, width: int, resolution: int, channels: int) -> None:
        super().__init__()
        side, doublings = stages(resolution)
        wide = [min(width << i, 4 * width) for i in reversed(range(doublings))]
        self.project = nn.Linear(latent_dim, wide[0] * side**2)
        self.shape = (wide[0], side, side)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise([*wide, channels]):
            layers += [
                nn.LeakyReLU(0.2, inplace=True),
                nn.Upsample(scale_factor=2),
                nn.Conv2d(inputs, outputs, 3, padding=1),
            ]
        self.layers = nn.Sequential(*layers, nn.Tanh())
        initialise(self)

    def forward(self, z: Tensor) -> Tensor:
        """Latents (N, latent_dim) to images (N, C, R, R) in [-1, 1]."""
        images: Tensor = self.layers(self.project(z).unflatten(1, self.shape))
        return images


def initialise(module: nn.Module) -> None:
    """Weights that keep the variance from layer to layer (He et al. 2015), in place of batch norm; zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, a=0.2)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def discriminator(*, width: int, resolution: int, channels: int, classes: int, norm: str) -> Discriminator:
    """Two strided 4x4 convolutions (width, 2 width), a hidden layer of 32 width, one logit."""
    trunk = nn.Sequential(
        nn.Conv2d(channels, width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Flatten(),
        nn.Linear(2 * width * (resolution // 4) ** 2, 32 * width),
        nn.LeakyReLU(0.2, inplace=True),
    )
    return Discriminator(trunk, 32 * width, classes=classes, norm=norm)

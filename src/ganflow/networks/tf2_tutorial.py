"""The TensorFlow 2 DCGAN tutorial's pair, operator for operator: 2,305,472 and 212,865 parameters, 28x28 grey.

https://www.tensorflow.org/tutorials/generative/dcgan. Keras' defaults are kept: LeakyReLU 0.3, batch norm with
epsilon 1e-3 and momentum 0.99 (torch counts the other way: 0.01), Glorot-uniform weights, zero biases. TensorFlow's
"same" padding of a stride-2 5x5 convolution is asymmetric, (1, 2), and is written out.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from ganflow.errors import ConfigError
from ganflow.networks.discriminator import Discriminator


def initialise(module: nn.Module) -> None:
    """Keras' defaults: Glorot-uniform weights and zero biases."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def require_mnist_size(resolution: int, channels: int) -> None:
    """Raise ConfigError unless the images are 28x28 grey, the only size that the tutorial has."""
    if (resolution, channels) != (28, 1):
        raise ConfigError(
            f"the network tf2_tutorial draws 28x28 images of 1 channel, not {resolution}x{resolution} of {channels}; "
            "use dcgan, or set data.resolution=28 and data.channels=1"
        )


class Generator(nn.Module):
    """Dense 7x7x256, transposed 5x5 convolutions to 128 (stride 1), 64 (stride 2) and 1 channel (stride 2), tanh."""

    per_sample = False
    stochastic = False

    def __init__(self, *, latent_dim: int, width: int, resolution: int, channels: int) -> None:
        super().__init__()
        require_mnist_size(resolution, channels)
        self.project = nn.Linear(latent_dim, 7 * 7 * 256, bias=False)
        self.norm0 = nn.BatchNorm1d(7 * 7 * 256, eps=1e-3, momentum=0.01)
        self.up1 = nn.ConvTranspose2d(256, 128, 5, stride=1, padding=2, bias=False)
        self.norm1 = nn.BatchNorm2d(128, eps=1e-3, momentum=0.01)
        self.up2 = nn.ConvTranspose2d(128, 64, 5, stride=2, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(64, eps=1e-3, momentum=0.01)
        self.up3 = nn.ConvTranspose2d(64, 1, 5, stride=2, padding=1, bias=False)
        initialise(self)

    def forward(self, z: Tensor) -> Tensor:
        """Latents (N, latent_dim) to images (N, 1, 28, 28) in [-1, 1]."""
        h = F.leaky_relu(self.norm0(self.project(z)), 0.3).reshape(-1, 256, 7, 7)
        h = F.leaky_relu(self.norm1(self.up1(h)), 0.3)
        h = F.leaky_relu(self.norm2(self.up2(h)[..., :14, :14]), 0.3)
        images: Tensor = self.up3(h)[..., :28, :28].tanh()
        return images


class Trunk(nn.Module):
    """5x5 stride-2 convolutions to 64 and 128 channels, LeakyReLU 0.3 and dropout 0.3 after each."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Conv2d(1, 64, 5, stride=2)
        self.down2 = nn.Conv2d(64, 128, 5, stride=2)
        self.after = nn.Sequential(nn.LeakyReLU(0.3), nn.Dropout(0.3))

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 1, 28, 28) to features (N, 6272)."""
        h = self.after(self.down1(F.pad(images, (1, 2, 1, 2))))
        h = self.after(self.down2(F.pad(h, (1, 2, 1, 2))))
        features: Tensor = h.flatten(1)
        return features


def discriminator(*, width: int, resolution: int, channels: int, classes: int, norm: str) -> Discriminator:
    """The tutorial's discriminator. Raises ConfigError for another size than its own."""
    require_mnist_size(resolution, channels)
    return Discriminator(Trunk(), 7 * 7 * 128, classes=classes, norm=norm, initialise=initialise)

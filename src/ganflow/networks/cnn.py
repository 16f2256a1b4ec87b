"""A plain convolutional discriminator, without normalisation: the partner of the MLP generator."""

from torch import Tensor, nn


class Discriminator(nn.Module):
    """Two strided 4x4 convolutions (width, 2 width), a hidden layer of 32 width, one logit."""

    def __init__(self, *, width: int, resolution: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * width * (resolution // 4) ** 2, 32 * width),
            nn.LeakyReLU(0.2),
            nn.Linear(32 * width, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, R, R) to logits (N,)."""
        logits: Tensor = self.layers(images).squeeze(1)
        return logits

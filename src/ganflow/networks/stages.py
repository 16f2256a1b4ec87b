"""How convolutional networks go from their smallest feature map to the image: by doublings of the side."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def stages(resolution: int) -> tuple[int, int]:
    """(side of the smallest feature map, number of doublings to the image): 7 for 28 pixels, 4 else."""
    smallest = 7 if resolution == 28 else 4
    return smallest, (resolution // smallest).bit_length() - 1


class Double(nn.Module):
    """Twice the side by the bilinear filter (1, 2, 1): each even pixel is a pixel, each odd one the mean of two.

    A convolution, on CPU several times as fast as interpolation or pooling. Outside of the map lie zeros.
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", bilinear(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, H, W) to (N, channels, 2 H, 2 W)."""
        kernel = self.kernel.expand(x.shape[1], 1, 3, 3)
        return F.conv_transpose2d(x, kernel, stride=2, padding=1, output_padding=1, groups=x.shape[1])


class Halve(nn.Module):
    """Half the side by the same filter, around each even pixel."""

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", bilinear() / 4, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, 2 H, 2 W) to (N, channels, H, W)."""
        return F.conv2d(x, self.kernel.expand(x.shape[1], 1, 3, 3), stride=2, padding=1, groups=x.shape[1])


def bilinear() -> Tensor:
    """(1, 2, 1) by (1, 2, 1), over 4: float32 (3, 3)."""
    side = torch.tensor([0.5, 1.0, 0.5])
    return torch.outer(side, side)

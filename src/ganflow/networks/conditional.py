"""A generator told which class to draw (Mirza and Osindero 2014): the class joins the noise at the input."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ConditionalGenerator(nn.Module):
    """Any family's generator on [z, e_y], e_y the class's learned vector, as long as z.

    e_y is scaled to the length that z has on average, √latent_dim, so that neither drowns the other.
    """

    frequencies: Tensor
    """float32 (classes,): how often each class occurs in the training images; what samplers draw by."""

    def __init__(self, make: Callable[..., nn.Module], *, classes: int, latent_dim: int, **size: int) -> None:
        super().__init__()
        self.generator = make(latent_dim=2 * latent_dim, **size)
        self.embedding = nn.Embedding(classes, latent_dim)
        self.register_buffer("frequencies", torch.full((classes,), 1 / classes))
        self.per_sample = bool(self.generator.per_sample)
        self.stochastic = bool(self.generator.stochastic)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """Latents (N, latent_dim) and labels int64 (N,) to images (N, C, R, R) in [-1, 1]."""
        classes = F.normalize(self.embedding(labels), dim=1) * z.shape[1] ** 0.5
        images: Tensor = self.generator(torch.cat((z, classes), dim=1))
        return images

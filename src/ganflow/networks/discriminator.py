"""What all discriminators share: a trunk to features, one logit, and the projection of the class."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ganflow.networks import spectral

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


class Discriminator(nn.Module):
    """Images (N, C, R, R) to logits (N,): w·h + b, and with classes + e_y·h, for the trunk's features h (N, width).

    The second term is the projection of Miyato and Koyama (2018), e_y the learned vector of class y.
    """

    def __init__(
        self,
        trunk: nn.Module,
        width: int,
        *,
        classes: int,
        norm: str,
        initialise: Callable[[nn.Module], None] | None = None,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.logit = nn.Linear(width, 1)
        self.embedding = nn.Embedding(classes, width) if classes else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=width**-0.5)
        if initialise is not None:
            initialise(self)
        if norm == "spectral":
            spectral.normalise(self)
        self.per_sample = not any(isinstance(layer, BATCH_NORMS) for layer in self.modules())
        """Whether an image's logit depends on that image alone."""
        self.stochastic = any(isinstance(layer, nn.Dropout) for layer in self.modules())
        """Whether a forward pass draws random numbers."""

    def features(self, images: Tensor) -> Tensor:
        """Images (N, C, R, R) to what the logit is computed from (N, width)."""
        features: Tensor = self.trunk(images)
        return features

    def head(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Features (N, width), and labels int64 (N,) where there are classes, to logits (N,)."""
        logits: Tensor = self.logit(features).squeeze(1)
        if self.embedding is None:
            return logits
        return logits + torch.sum(self.embedding(labels) * features, dim=1)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images (N, C, R, R), and labels int64 (N,) where there are classes, to logits (N,)."""
        return self.head(self.features(images), labels)

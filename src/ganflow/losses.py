"""What each player minimises, as functions of the discriminator's logits.

The value of the game is V(D, G) = E log D(x) + E log(1 - D(G(z))) (Goodfellow et al. 2014), with D the sigmoid of
the logit. Logits are float32 (N,); every loss is a scalar.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus


def discriminator_loss(real: Tensor, fake: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """-V(D, G); real images have the target 1 - label_smoothing, fake ones 0: one-sided (Salimans et al. 2016)."""
    target = torch.full_like(real, 1.0 - label_smoothing)
    return binary_cross_entropy_with_logits(real, target) + softplus(fake).mean()


def minimax(fake: Tensor) -> Tensor:
    """V(D, G) as far as G reaches: E log(1 - D(G(z))). The zero-sum game itself."""
    return -softplus(fake).mean()


def non_saturating(fake: Tensor) -> Tensor:
    """-E log D(G(z)): the same fixed points, and a gradient where D is sure."""
    return softplus(-fake).mean()


GENERATOR_LOSSES: dict[str, Callable[[Tensor], Tensor]] = {"minimax": minimax, "non_saturating": non_saturating}

"""What each player minimises, as functions of the discriminator's logits.

The value of the game is V(D, G) = E log D(x) + E log(1 - D(G(z))) (Goodfellow et al. 2014), with D the sigmoid of
the logit. Logits are float32 (N,); every loss is a scalar. Real and drawn images stand in pairs, which only the
relativistic loss looks at.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, relu, softplus


@dataclass(frozen=True)
class Loss:
    """The two players' losses of (real logits, fake logits), and D's at the equilibrium, where it cannot tell."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    equilibrium: float | None
    """D's loss at logits that are all zero; None where D's loss has no scale."""
    pairs: bool = False
    """Whether G's loss looks at the real logits too."""


def cross_entropy(real: Tensor, fake: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """-V(D, G); real images have the target 1 - label_smoothing, fake ones 0: one-sided (Salimans et al. 2016)."""
    target = torch.full_like(real, 1.0 - label_smoothing)
    return binary_cross_entropy_with_logits(real, target) + softplus(fake).mean()


def minimax(real: Tensor, fake: Tensor) -> Tensor:
    """V(D, G) as far as G reaches: E log(1 - D(G(z))). The zero-sum game itself."""
    return -softplus(fake).mean()


def non_saturating(real: Tensor, fake: Tensor) -> Tensor:
    """-E log D(G(z)): the same fixed points, and a gradient where D is sure."""
    return softplus(-fake).mean()


def squared_error(real: Tensor, fake: Tensor) -> Tensor:
    """D's E (D(x) - 1)^2 / 2 + E (D(G(z)) + 1)^2 / 2: the Pearson chi-squared game (Mao et al. 2017, equation 8)."""
    return (real - 1).square().mean() / 2 + (fake + 1).square().mean() / 2


def squared_distance(real: Tensor, fake: Tensor) -> Tensor:
    """G's least squares: E D(G(z))^2 / 2."""
    return fake.square().mean() / 2


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """D's E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))) (Lim and Ye 2017)."""
    return relu(1 - real).mean() + relu(1 + fake).mean()


def wasserstein(real: Tensor, fake: Tensor) -> Tensor:
    """The critic's E D(G(z)) - E D(x): minus the Wasserstein-1 distance for slopes up to 1 (Arjovsky et al. 2017)."""
    return fake.mean() - real.mean()


def ascent(real: Tensor, fake: Tensor) -> Tensor:
    """G's -E D(G(z)), of the hinge and the Wasserstein game."""
    return -fake.mean()


def relativistic(real: Tensor, fake: Tensor) -> Tensor:
    """D's E softplus(-(D(x) - D(G(z)))): a real image against the drawn one beside it (Huang et al. 2024, R3GAN)."""
    return softplus(fake - real).mean()


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """The mirror image, for G."""
    return softplus(real - fake).mean()


LOSSES: dict[str, Loss] = {
    "minimax": Loss(cross_entropy, minimax, 2 * math.log(2)),
    "non_saturating": Loss(cross_entropy, non_saturating, 2 * math.log(2)),
    "least_squares": Loss(squared_error, squared_distance, 1.0),
    "hinge": Loss(hinge, ascent, 2.0),
    "wasserstein": Loss(wasserstein, ascent, None),
    "relativistic": Loss(relativistic, relativistic_generator, math.log(2), pairs=True),
}


def feature_matching(real: Tensor, fake: Tensor) -> Tensor:
    """|E f(x) - E f(G(z))|^2 of D's features f, float32 (N, F) (Salimans et al. 2016, section 3.1)."""
    return (real.mean(0) - fake.mean(0)).square().sum()

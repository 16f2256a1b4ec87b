"""Games small enough to know the answer of, played by the engine's own steps."""

import copy

import torch
from torch import Tensor, nn

from ganflow.config import Train
from ganflow.parallel import World
from ganflow.training.batches import Batch
from ganflow.training.player import Player, flatten
from ganflow.training.state import METRICS, State
from ganflow.training.step import Step

EPSILON = 1e6
"""Adam with an epsilon that is huge beside every gradient is gradient descent at the rate learning_rate / epsilon."""


def descent(rate: float, **settings: object) -> Train:
    """Settings of plain gradient descent at a rate, on batches of two."""
    plain = {"learning_rate": rate * EPSILON, "adam_epsilon": EPSILON, "beta1": 0.0, "beta2": 0.0, "batch_size": 2}
    return Train.model_validate({**plain, "discriminator": "cnn", **settings})


class Point(nn.Module):
    """The Dirac-GAN's G (Mescheder, Geiger and Nowozin 2018): every latent is drawn as theta."""

    stochastic = False

    def __init__(self) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.ones(1))

    def forward(self, z: Tensor) -> Tensor:
        return self.theta.expand(len(z)).view(-1, 1, 1, 1)


class Slope(nn.Module):
    """The Dirac-GAN's D: the logit of x is psi x."""

    stochastic = False
    per_sample = True

    def __init__(self) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.ones(1))

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)

    def head(self, features: Tensor, labels: Tensor | None) -> Tensor:
        return (features * self.psi).squeeze(1)


def game_state(generator: nn.Module, discriminator: nn.Module, settings: Train) -> State:
    average = copy.deepcopy(generator).requires_grad_(False)
    return State(
        generator=Player(generator, settings.learning_rate, settings),
        discriminator=Player(discriminator, settings.discriminator_learning_rate or settings.learning_rate, settings),
        average=average,
        average_weights=flatten(average).data,
        identity="",
        sums=torch.zeros(len(METRICS) + 1, dtype=torch.float64),
        augment_probability=torch.ones(()),
        gamma=torch.ones(()),
        pace=torch.ones(()),
    )


def dirac(steps: int, settings: Train) -> list[tuple[float, float]]:
    """(theta, psi) after every step of the Dirac-GAN from (1, 1); the real image is 0."""
    generator, discriminator = Point(), Slope()
    state = game_state(generator, discriminator, settings)
    step, path = Step(state, settings, World()), []
    for _ in range(steps):
        size, first = settings.batch_size, state.images
        starts = range(first, first + settings.images_per_step, size)
        step([Batch(torch.zeros(size, 1, 1, 1), None, torch.arange(start, start + size)) for start in starts])
        path.append((generator.theta.item(), discriminator.psi.item()))
    return path

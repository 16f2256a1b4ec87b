"""How the two players move in one step: the solver of the game.

Each takes the step's batches and returns the mean of what was measured, (loss_d, d_real, d_fake, penalty, sign_real,
loss_g). `penalised` says for each batch whether D's penalties are due.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ganflow.networks.discriminator import Discriminator
from ganflow.parallel import World
from ganflow.training.batches import Batch
from ganflow.training.game import Game, Knobs
from ganflow.training.player import Player, float_buffers, freeze


class Match:
    """Two players, their game, and the processes among which it is played."""

    def __init__(
        self, generator: Player[nn.Module], discriminator: Player[Discriminator], game: Game, world: World
    ) -> None:
        self.generator, self.discriminator, self.game, self.world = generator, discriminator, game, world

    def draw(self, batch: Batch, differentiable: bool) -> Tensor:
        """G's images for a batch, with or without what G's gradient needs."""
        with torch.set_grad_enabled(differentiable):
            return self.game.draw(self.generator.network, batch)

    def differentiate_d(self, batch: Batch, fake: Tensor, knobs: Knobs, penalised: bool) -> Tensor:
        """Fill D's gradient; returns what was measured (5,)."""
        loss, measured = self.game.discriminator_objective(batch, fake.detach(), knobs, penalised)
        self.discriminator.differentiate(loss)
        self.world.average([self.discriminator.gradient, measured])
        return measured

    def differentiate_g(self, batch: Batch, fake: Tensor, knobs: Knobs) -> Tensor:
        """Fill G's gradient; returns its loss (1,). D is frozen meanwhile: its gradient is a third of the work."""
        freeze([self.discriminator], True)
        loss = self.game.generator_objective(batch, fake, knobs)
        self.generator.differentiate(loss)
        freeze([self.discriminator], False)
        measured = loss.detach().view(1)
        # The last pass of a step: whatever moved the batch statistics since the last exchange is in them.
        statistics = [*float_buffers(self.generator.network), *float_buffers(self.discriminator.network)]
        self.world.average([self.generator.gradient, *statistics, measured])
        return measured

    def differentiate(self, batch: Batch, knobs: Knobs, penalised: bool) -> Tensor:
        """Fill both gradients at the same point, from the same drawn images."""
        fake = self.draw(batch, True)
        return torch.cat(
            [self.differentiate_d(batch, fake, knobs, penalised), self.differentiate_g(batch, fake, knobs)]
        )


Solver = Callable[[Match, Sequence[Batch], Knobs, Sequence[bool]], Tensor]


def alternating(match: Match, batches: Sequence[Batch], knobs: Knobs, penalised: Sequence[bool]) -> Tensor:
    """An update of D a batch, then one of G, against the new D, with the last batch's drawn images."""
    measured = []
    for batch, due in zip(batches, penalised, strict=True):
        fake = match.draw(batch, differentiable=batch is batches[-1])
        measured.append(match.differentiate_d(batch, fake, knobs, due))
        match.discriminator.step()
    loss_g = match.differentiate_g(batches[-1], fake, knobs)
    match.generator.step()
    return torch.cat([torch.stack(measured).mean(0), loss_g])


def simultaneous(match: Match, batches: Sequence[Batch], knobs: Knobs, penalised: Sequence[bool]) -> Tensor:
    """Both players move at once, from the same point: gradient descent-ascent."""
    measured = match.differentiate(batches[0], knobs, penalised[0])
    match.discriminator.step()
    match.generator.step()
    return measured


def optimistic(match: Match, batches: Sequence[Batch], knobs: Knobs, penalised: Sequence[bool]) -> Tensor:
    """Both at once, each with twice its update less the one before (Daskalakis et al. 2018)."""
    measured = match.differentiate(batches[0], knobs, penalised[0])
    match.discriminator.optimistic_step()
    match.generator.optimistic_step()
    return measured


def extragradient(match: Match, batches: Sequence[Batch], knobs: Knobs, penalised: Sequence[bool]) -> Tensor:
    """Look ahead on the first batch, then move from where the players stood by the second batch's gradient there.

    Adam's moments take in both gradients: ExtraAdam (Gidel et al. 2019, algorithm 4).
    """
    players: tuple[Player[Any], ...] = (match.discriminator, match.generator)
    stood = [player.weights.detach().clone() for player in players]
    first = match.differentiate(batches[0], knobs, penalised[0])
    for player in players:
        player.step()
    second = match.differentiate(batches[1], knobs, penalised[1])
    with torch.no_grad():
        for player, weights in zip(players, stood, strict=True):
            player.weights.copy_(weights)
    for player in players:
        player.step()
    return (first + second) / 2


SOLVERS: dict[str, Solver] = {
    "alternating": alternating,
    "simultaneous": simultaneous,
    "extragradient": extragradient,
    "optimistic": optimistic,
}

"""One step of the game: the solver's moves, G's average, and the sums of what was measured."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ganflow import randomness
from ganflow.augment import adapt
from ganflow.config import Train
from ganflow.networks.spectral import power_iteration
from ganflow.parallel import World
from ganflow.randomness import Stream
from ganflow.training.batches import Batch
from ganflow.training.game import Game, Knobs
from ganflow.training.player import float_buffers
from ganflow.training.solvers import SOLVERS, Match
from ganflow.training.state import METRICS, State

SIGN_REAL = METRICS.index("sign_real")


class Step:
    """Plays steps of one state. Nothing in it waits for the device."""

    def __init__(self, state: State, settings: Train, world: World) -> None:
        self.state, self.settings = state, settings
        game = Game(settings, state.discriminator.network, state.device)
        self.match = Match(state.generator, state.discriminator, game, world)
        self.solve = SOLVERS[settings.solver]
        networks = (state.generator.network, state.discriminator.network)
        self.stochastic = any(network.stochastic for network in networks)

    def __call__(self, batches: Sequence[Batch]) -> None:
        """One step on its batches; adds to state.images and state.sums."""
        self.prepare(batches)
        self.play(batches, self.penalised())
        self.state.images += self.settings.images_per_step

    def prepare(self, batches: Sequence[Batch]) -> None:
        """Set what the host knows of this step: annealed rates, and torch's own generator for dropout."""
        if self.settings.anneal_images or self.state.pace.item() < 1:
            self._anneal()
        if self.stochastic:  # seeded by the place in the run, so that a resumed run draws the same
            first = self.state.images + self.match.world.rank
            torch.manual_seed(randomness.derived_seed(self.settings.seed, Stream.LAYERS, first))

    def penalised(self) -> tuple[bool, ...]:
        """For each batch of this step, whether D's penalties are due: in every n-th update of D.

        Extragradient's two gradients make one update, and agree.
        """
        every, count = self.settings.penalty_every, self.settings.batches_per_step
        step = self.state.images // self.settings.images_per_step
        if self.settings.solver == "extragradient":
            return (step % every == 0,) * count
        return tuple((step * count + batch) % every == 0 for batch in range(count))

    def play(self, batches: Sequence[Batch], penalised: Sequence[bool]) -> None:
        """The part of a step that is computed on the device."""
        state = self.state
        power_iteration(state.discriminator.network)
        measured = self.solve(self.match, batches, Knobs(state.augment_probability, state.gamma), penalised)
        if self.settings.augment_target is not None:
            self._adapt(measured[SIGN_REAL])
        self._average()
        state.sums += torch.cat([measured, measured.new_ones(1)]).to(state.sums.dtype)

    def _adapt(self, sign_real: Tensor) -> None:
        target, images = self.settings.augment_target, self.settings.images_per_step
        assert target is not None
        probability = self.state.augment_probability
        probability.copy_(adapt(probability, sign_real, target, images, self.settings.augment_adaptation_images))

    @torch.no_grad()
    def _average(self) -> None:
        """Exponential moving average of G's weights and batch-norm statistics (Karras et al. 2018)."""
        state, settings = self.state, self.settings
        weight = 1 - 0.5 ** (settings.images_per_step / settings.ema_half_life_images)
        averages = [state.average_weights, *float_buffers(state.average)]
        torch._foreach_lerp_(averages, [state.generator.weights, *float_buffers(state.generator.network)], weight)

    def _anneal(self) -> None:
        """Half a cosine from the first values to the final ones (R3GAN's schedule, from Loshchilov and Hutter 2017)."""
        settings, state = self.settings, self.state
        done = min(state.images / settings.anneal_images, 1.0) if settings.anneal_images else 0.0
        left = (1 + math.cos(math.pi * done)) / 2

        def between(first: float, final: float | None) -> float:
            return first if final is None else final + (first - final) * left

        factor = between(settings.learning_rate, settings.final_learning_rate) / settings.learning_rate
        for player in (state.generator, state.discriminator):
            player.set_rate(factor * state.pace.item(), between(settings.beta2, settings.final_beta2))
        gamma = max(settings.r1_gamma, settings.r2_gamma)
        if settings.final_gamma is not None:
            state.gamma.fill_(between(gamma, settings.final_gamma) / gamma)

"""How far the players are from a Nash equilibrium: what each would gain by a few steps of its best response.

The duality gap (Grnarova et al. 2019): max over D' of M(D', G) less min over G' of M(D, G'), zero at an equilibrium
alone. M is the value of the zero-sum game, minus D's loss without penalties. The best responses start from the
players, learn on training images that come next, and are measured on held-out ones.
"""

import copy

import numpy as np
import torch
from torch import Tensor

from ganflow.config import Train
from ganflow.images import AnyImages, Labels
from ganflow.networks.spectral import power_iteration
from ganflow.parallel import World
from ganflow.training.batches import Batch, to_float
from ganflow.training.game import Game, Knobs
from ganflow.training.player import Network, Player
from ganflow.training.solvers import Match
from ganflow.training.state import State

APART = 1 << 40
"""Added to an index: latents that no training step draws."""
MEASURED_IMAGES = 1024


def duality_gap(state: State, batches: list[Batch], held_out: Batch, settings: Train) -> dict[str, float]:
    """`gap_d` and `gap_g`, what D and G gain by their best responses, and `duality_gap`, their sum.

    Each batch is a step of both. The state is left as it is.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of dropout, in all three measurements alike
        now = _copies(state, settings)
        better_d, better_g = _copies(state, settings), _copies(state, settings)
        knobs = Knobs(state.augment_probability, state.gamma)
        for batch in batches:
            for match in (better_d, better_g):
                power_iteration(match.discriminator.network)
            better_d.differentiate_d(batch, better_d.draw(batch, False), knobs, True)
            better_d.discriminator.step()
            better_g.differentiate_g(batch, better_g.draw(batch, True), knobs)
            better_g.generator.step()
        value, with_d, with_g = (_value(match, held_out, knobs) for match in (now, better_d, better_g))
    return {"duality_gap": with_d - with_g, "gap_d": with_d - value, "gap_g": value - with_g}


def held_out_batch(images: AnyImages, labels: Labels | None, settings: Train, device: torch.device) -> Batch:
    """The first held-out images, on latents of their own."""
    count = min(len(images), MEASURED_IMAGES)
    chosen = None if labels is None or not settings.conditional else torch.from_numpy(labels[:count]).to(device)
    pixels = torch.from_numpy(np.array(images[:count])).to(device)
    return Batch(to_float(pixels), chosen, torch.arange(2 * APART, 2 * APART + count, device=device))


def apart(batch: Batch) -> Batch:
    """The same images with latents that no training step draws."""
    return Batch(batch.images, batch.labels, batch.index + APART)


def _copies(state: State, settings: Train) -> Match:
    generator, discriminator = _twin(state.generator, settings), _twin(state.discriminator, settings)
    return Match(generator, discriminator, Game(settings, discriminator.network, state.device), World())


def _twin(player: Player[Network], settings: Train) -> Player[Network]:
    twin = Player(copy.deepcopy(player.network), player.first_rate, settings)
    twin.load({key: value.clone() for key, value in player.tensors().items()})
    return twin


@torch.no_grad()
def _value(match: Match, batch: Batch, knobs: Knobs) -> float:
    """M(D, G): minus D's loss on the batch, without penalties."""
    torch.manual_seed(0)
    measured: Tensor = match.game.discriminator_objective(batch, match.draw(batch, False), knobs, False)[1]
    return -measured[0].item()

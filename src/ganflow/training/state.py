"""Everything that a training run carries from one step to the next, and nothing else."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganflow import randomness
from ganflow.config import Train
from ganflow.errors import ConfigError
from ganflow.images import Labels
from ganflow.networks import build_discriminator, build_generator
from ganflow.networks.conditional import ConditionalGenerator
from ganflow.networks.discriminator import Discriminator
from ganflow.parallel import World
from ganflow.training.game import MEASURED
from ganflow.training.player import Player, below, flatten

METRICS = (*MEASURED, "loss_g")


@dataclass
class State:
    """The players, G's average, the images seen, and the metrics' sums since the last record."""

    generator: Player[nn.Module]
    discriminator: Player[Discriminator]
    average: nn.Module
    average_weights: Tensor
    """The average's weights, flat as the generator's."""
    identity: str
    """What a checkpoint must share with the run: `history.run_identity`."""
    sums: Tensor
    """float64 (len(METRICS) + 1,): sums over steps, and the number of steps."""
    augment_probability: Tensor
    """float32 scalar."""
    gamma: Tensor
    """float32 scalar: the annealed factor of the zero-centred penalties; a function of the images seen."""
    pace: Tensor
    """float32 scalar on the CPU: factor of both learning rates; halved when the run goes back to its best state."""
    images: int = 0

    @property
    def device(self) -> torch.device:
        """Where the players are."""
        return self.sums.device

    def live(self) -> dict[str, Tensor]:
        """Every tensor of the run under one flat name each, as it lies in memory."""
        flat = {"sums": self.sums, "augment_probability": self.augment_probability, "pace": self.pace}
        for name, part in self._parts().items():
            flat |= {f"{name}.{key}": value for key, value in part.items()}
        return flat

    def tensors(self) -> dict[str, Tensor]:
        """The same, copied to the CPU."""
        return {key: value.detach().cpu().contiguous().clone() for key, value in self.live().items()}

    def load(self, flat: dict[str, Tensor], images: int) -> None:
        """Take back what `tensors` gave."""
        self.images = images
        self.sums.copy_(flat["sums"])
        self.load_players(flat)
        self.pace.copy_(flat["pace"])

    def load_players(self, flat: dict[str, Tensor]) -> None:
        """Take back the players alone: what a run that goes back to an earlier state keeps of it."""
        self.augment_probability.copy_(flat["augment_probability"])
        self.average.load_state_dict(below(flat, "average"))
        self.generator.load(below(flat, "generator"))
        self.discriminator.load(below(flat, "discriminator"))

    def finite(self) -> bool:
        """Whether nothing in the state, Adam's moments included, is NaN or infinite."""
        return all(bool(value.isfinite().all()) for value in self.live().values())

    def share(self, world: World) -> None:
        """Give every process the leader's state."""
        self.images = world.told(self.images)
        if world.size > 1:
            values = world.told(self.tensors() if world.leads else None)
            self.load(values, self.images)

    def _parts(self) -> dict[str, dict[str, Tensor]]:
        return {
            "generator": self.generator.tensors(),
            "discriminator": self.discriminator.tensors(),
            "average": self.average.state_dict(),
        }


def architecture(settings: Train, data: dict[str, Any]) -> dict[str, Any]:
    """What builds the generator again: model.json records it. `data` has the resolution, channels and classes."""
    size = {
        "name": settings.generator,
        "latent_dim": settings.latent_dim,
        "width": settings.width,
        "resolution": data["resolution"],
        "channels": data["channels"],
    }
    return size | {"classes": len(data["classes"])} if settings.conditional else size


def new_state(
    settings: Train, data: dict[str, Any], labels: Labels | None, device: torch.device, identity: str
) -> State:
    """Players with their first weights, a function of the seed alone. Raises ConfigError where labels are missing."""
    if settings.conditional and (labels is None or not data["classes"]):
        raise ConfigError("train.conditional needs labels, and this data has none; set train.conditional=false")
    drawn = architecture(settings, data)
    judged = {key: value for key, value in drawn.items() if key != "latent_dim"}
    judged |= {"name": settings.discriminator, "norm": settings.discriminator_norm}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(randomness.derived_seed(settings.seed, randomness.Stream.INITIAL_WEIGHTS))
        generator = build_generator(drawn)
        discriminator = build_discriminator(judged)
    if isinstance(generator, ConditionalGenerator):
        counts = np.bincount(np.asarray(labels), minlength=drawn["classes"])
        generator.frequencies.copy_(torch.from_numpy(counts / counts.sum()))
    average = build_generator(drawn)
    average.load_state_dict(generator.state_dict())
    for network in (generator, discriminator, average):
        network.to(device)
    rate = settings.learning_rate
    return State(
        generator=Player(generator, rate, settings),
        discriminator=Player(discriminator, settings.discriminator_learning_rate or rate, settings),
        average=average.eval().requires_grad_(False),
        average_weights=flatten(average).data,
        identity=identity,
        sums=torch.zeros(len(METRICS) + 1, dtype=torch.float64, device=device),
        augment_probability=torch.tensor(0.0 if settings.augment_target else 1.0, device=device),
        gamma=torch.ones((), device=device),
        pace=torch.ones(()),
    )

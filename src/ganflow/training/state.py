"""Everything that a training run carries from one step to the next, and nothing else."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ganflow import randomness
from ganflow.config import Train
from ganflow.networks import build_discriminator, build_generator

METRICS = ("loss_d", "loss_g", "d_real", "d_fake")


@dataclass
class State:
    """The players, G's average, the optimisers, the images seen, and the metrics' sums since the last record."""

    generator: nn.Module
    discriminator: nn.Module
    average: nn.Module
    optimizer_g: torch.optim.Adam
    optimizer_d: torch.optim.Adam
    identity: str
    """What a checkpoint must share with the run: `history.run_identity`."""
    sums: Tensor
    """float64 (len(METRICS) + 1,): sums over steps, and the number of steps."""
    images: int = 0

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the run under one flat name each, on the CPU."""
        flat: dict[str, Tensor] = {"sums": self.sums}
        for name in ("generator", "discriminator", "average"):
            flat |= {f"{name}.{key}": value for key, value in getattr(self, name).state_dict().items()}
        for name in ("optimizer_g", "optimizer_d"):
            for index, moments in getattr(self, name).state_dict()["state"].items():
                flat |= {f"{name}.{index}.{key}": value for key, value in moments.items()}
        return {key: value.detach().cpu().contiguous().clone() for key, value in flat.items()}

    def load(self, flat: dict[str, Tensor], images: int) -> None:
        """Take back what `tensors` gave."""
        self.images = images
        self.sums.copy_(flat["sums"])
        for name in ("generator", "discriminator", "average"):
            getattr(self, name).load_state_dict(_below(flat, name))
        for name in ("optimizer_g", "optimizer_d"):
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in _below(flat, name).items():
                index, _, moment = key.partition(".")
                moments.setdefault(int(index), {})[moment] = value
            optimizer = getattr(self, name)
            optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})

    def finite(self) -> bool:
        """Whether nothing in the state, Adam's moments included, is NaN or infinite."""
        return all(bool(value.isfinite().all()) for value in self.tensors().values())


def architecture(settings: Train, resolution: int, channels: int) -> dict[str, Any]:
    """What builds the generator again: model.json records it."""
    return {
        "name": settings.generator,
        "latent_dim": settings.latent_dim,
        "width": settings.width,
        "resolution": resolution,
        "channels": channels,
    }


def new_state(settings: Train, resolution: int, channels: int, device: torch.device, identity: str) -> State:
    """Players with their first weights, a function of the seed alone."""
    size = {"width": settings.width, "resolution": resolution, "channels": channels}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(randomness.derived_seed(settings.seed, randomness.Stream.INITIAL_WEIGHTS))
        generator = build_generator(architecture(settings, resolution, channels))
        discriminator = build_discriminator({"name": settings.discriminator, **size})
    average = build_generator(architecture(settings, resolution, channels))
    average.load_state_dict(generator.state_dict())
    generator.to(device)
    discriminator.to(device)
    return State(
        generator=generator.train(),
        discriminator=discriminator.train(),
        average=average.to(device).eval().requires_grad_(False),
        optimizer_g=_adam(generator, settings),
        optimizer_d=_adam(discriminator, settings),
        identity=identity,
        sums=torch.zeros(len(METRICS) + 1, dtype=torch.float64, device=device),
    )


def _adam(player: nn.Module, settings: Train) -> torch.optim.Adam:
    betas = (settings.beta1, settings.beta2)
    return torch.optim.Adam(player.parameters(), settings.learning_rate, betas, settings.adam_epsilon)


def _below(flat: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = name + "."
    return {key.removeprefix(prefix): value for key, value in flat.items() if key.startswith(prefix)}

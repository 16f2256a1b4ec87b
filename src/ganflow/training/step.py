"""One round of the game: a step of D, a step of G, a step of G's average."""

import torch
from torch import Tensor, nn

from ganflow import losses, randomness
from ganflow.config import Train
from ganflow.randomness import Stream
from ganflow.training.state import State


def play(state: State, real: Tensor, settings: Train) -> None:
    """Alternating updates on real images float32 (N, C, R, R) in [-1, 1]; adds to state.sums and state.images."""
    index = torch.arange(state.images, state.images + len(real), device=real.device)
    # Dropout draws from torch's own generator: seeded by the place in the run, so that a resumed run draws the same.
    torch.manual_seed(randomness.derived_seed(settings.seed, Stream.LAYERS, state.images))
    d = discriminator_step(state, real, _latents(settings, Stream.LATENTS_D, index), settings)
    g = generator_step(state, _latents(settings, Stream.LATENTS_G, index), settings)
    update_average(state, len(real), settings.ema_half_life_images)
    state.sums += torch.stack([d[0], g, d[1], d[2], torch.ones_like(g)]).to(state.sums.dtype)
    state.images += len(real)


def discriminator_step(state: State, real: Tensor, latents: Tensor, settings: Train) -> tuple[Tensor, Tensor, Tensor]:
    """Returns detached (loss, mean D(x), mean D(G(z))) before the update."""
    with torch.no_grad():
        fake = state.generator(latents)
    state.optimizer_d.zero_grad(set_to_none=True)
    real_logits, fake_logits = state.discriminator(real), state.discriminator(fake)
    loss = losses.discriminator_loss(real_logits, fake_logits, settings.label_smoothing)
    loss.backward()  # type: ignore[no-untyped-call]
    state.optimizer_d.step()
    return loss.detach(), real_logits.detach().sigmoid().mean(), fake_logits.detach().sigmoid().mean()


def generator_step(state: State, latents: Tensor, settings: Train) -> Tensor:
    """Returns the detached loss before the update. D's weights need no gradient here: a third of the time."""
    state.discriminator.requires_grad_(False)
    state.optimizer_g.zero_grad(set_to_none=True)
    loss = losses.GENERATOR_LOSSES[settings.generator_loss](state.discriminator(state.generator(latents)))
    loss.backward()  # type: ignore[no-untyped-call]
    state.optimizer_g.step()
    state.discriminator.requires_grad_(True)
    return loss.detach()


@torch.no_grad()
def update_average(state: State, images: int, half_life: int) -> None:
    """Exponential moving average of G's weights and batch-norm statistics (Karras et al. 2018)."""
    averages, sources = _floats(state.average), _floats(state.generator)
    torch._foreach_lerp_(averages, sources, 1 - 0.5 ** (images / half_life))


def _floats(module: nn.Module) -> list[Tensor]:
    return [value for value in module.state_dict().values() if value.is_floating_point()]


def _latents(settings: Train, stream: Stream, index: Tensor) -> Tensor:
    return randomness.normal(settings.seed, stream, index, settings.latent_dim)

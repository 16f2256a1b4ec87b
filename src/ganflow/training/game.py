"""The game: what each player minimises on a batch, with every trick that the settings ask for."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ganflow import losses, penalties, randomness
from ganflow.augment import UNIFORMS, augment
from ganflow.config import Train
from ganflow.device import has_bfloat16
from ganflow.networks.discriminator import Discriminator
from ganflow.randomness import Stream
from ganflow.training.batches import Batch

MEASURED = ("loss_d", "d_real", "d_fake", "penalty", "sign_real")
"""What D's objective tells besides its value; `d_*` are means of the logits' sigmoid."""


class Knobs(NamedTuple):
    """What changes as the training goes on, each a float32 scalar on the device."""

    augment_probability: Tensor
    gamma: Tensor
    """Factor of r1_gamma and r2_gamma."""


class Sides(NamedTuple):
    """D's answers to a batch."""

    real: Tensor
    """Logits (n,)."""
    fake: Tensor
    penalty: Tensor
    """R1 and R2, a scalar."""


class Game:
    """Both players' objectives on batches of one process."""

    def __init__(self, settings: Train, discriminator: Discriminator, device: torch.device) -> None:
        self.settings, self.discriminator = settings, discriminator
        self.loss = losses.LOSSES[settings.loss]
        self.half = settings.precision == "bfloat16" and has_bfloat16(device)
        self.device_type = device.type

    def draw(self, generator: nn.Module, batch: Batch) -> Tensor:
        """G's images for the batch's places: (n, C, R, R), one latent each."""
        latents = randomness.normal(self.settings.seed, Stream.LATENTS, batch.index, self.settings.latent_dim)
        with self._precision():
            fake: Tensor = generator(latents) if batch.labels is None else generator(latents, batch.labels)
        return fake.float()

    def discriminator_objective(
        self, batch: Batch, fake: Tensor, knobs: Knobs, penalised: bool
    ) -> tuple[Tensor, Tensor]:
        """D's loss with its penalties, a scalar, and the values of MEASURED, detached float32."""
        sides = self._judge_both(batch, fake, knobs, penalised)
        loss = self._discriminator_loss(sides)
        penalty = sides.penalty
        if penalised and self.settings.gradient_penalty != "none":
            penalty = penalty + self.settings.gradient_penalty_weight * self._gradient_penalty(batch, fake, knobs)
        penalty = self.settings.penalty_every * penalty
        d_real, d_fake = sides.real.sigmoid().mean(), sides.fake.sigmoid().mean()
        return loss + penalty, torch.stack([loss, d_real, d_fake, penalty, sides.real.sign().mean()]).detach()

    def generator_objective(self, batch: Batch, fake: Tensor, knobs: Knobs) -> Tensor:
        """G's loss, a scalar; D's weights are taken as they are."""
        weight = self.settings.feature_matching
        uniforms = self._uniforms(batch, 2)
        with self._precision():
            fake_features = self._features(fake, knobs, uniforms)
            fake_logits = self.discriminator.head(fake_features, batch.labels).float()
            if not (self.loss.pairs or weight):
                return self.loss.generator(fake_logits, fake_logits)
            with torch.no_grad():
                real_features = self._features(batch.images, knobs, self._uniforms(batch, 0))
                real_logits = self.discriminator.head(real_features, batch.labels).float()
        loss = self.loss.generator(real_logits, fake_logits)
        return loss + weight * losses.feature_matching(real_features.float(), fake_features.float()) if weight else loss

    def _discriminator_loss(self, sides: Sides) -> Tensor:
        if self.settings.label_smoothing:
            return losses.cross_entropy(sides.real, sides.fake, self.settings.label_smoothing)
        return self.loss.discriminator(sides.real, sides.fake)

    def _judge_both(self, batch: Batch, fake: Tensor, knobs: Knobs, penalised: bool) -> Sides:
        """Real and drawn images in one pass where D judges each image by itself, else in two."""
        r1, r2 = (self.settings.r1_gamma, self.settings.r2_gamma) if penalised else (0.0, 0.0)
        draws = self._uniforms(batch, 0), self._uniforms(batch, 1)
        if self.discriminator.per_sample and r1 == r2:
            images = torch.cat((batch.images, fake))
            logits, mean = self._judge(images, _twice(batch.labels), knobs, _joined(draws), r1)
            real, drawn = logits.chunk(2)
            return Sides(real, drawn, 2 * mean)  # the mean is over twice as many images
        real, real_penalty = self._judge(batch.images, batch.labels, knobs, draws[0], r1)
        drawn, drawn_penalty = self._judge(fake, batch.labels, knobs, draws[1], r2)
        return Sides(real, drawn, real_penalty + drawn_penalty)

    def _judge(
        self, images: Tensor, labels: Tensor | None, knobs: Knobs, uniforms: Tensor | None, gamma: float
    ) -> tuple[Tensor, Tensor]:
        """Logits (n,), and gamma times the zero-centred penalty there; penalties are computed in float32."""
        judge = partial(self._seen, labels=labels, knobs=knobs, uniforms=uniforms)
        penalty = torch.zeros((), device=images.device)
        if gamma:
            squared, logits = penalties.squared_slopes(judge, images)
            penalty = gamma * knobs.gamma * penalties.zero_centred(squared)
            if not self.half:
                return logits, penalty
        with self._precision():
            return judge(images).float(), penalty

    def _gradient_penalty(self, batch: Batch, fake: Tensor, knobs: Knobs) -> Tensor:
        """WGAN-GP's or DRAGAN's, in float32."""
        seed, real = self.settings.seed, batch.images
        if self.settings.gradient_penalty == "wgan_gp":
            points = penalties.between(real, fake, randomness.uniform(seed, Stream.PENALTY, batch.index, 1))
        else:
            uniforms = randomness.uniform(seed, Stream.PENALTY, batch.index, 1 + real[0].numel())
            points = penalties.around(real, uniforms)
        judge = partial(self._seen, labels=batch.labels, knobs=knobs, uniforms=self._uniforms(batch, 1))
        return penalties.one_centred(penalties.squared_slopes(judge, points)[0])

    def _seen(self, images: Tensor, labels: Tensor | None, knobs: Knobs, uniforms: Tensor | None) -> Tensor:
        """D behind the augmentation: images to logits."""
        return self.discriminator.head(self._features(images, knobs, uniforms), labels)

    def _features(self, images: Tensor, knobs: Knobs, uniforms: Tensor | None) -> Tensor:
        if uniforms is not None:
            images = augment(images, self.settings.augment, knobs.augment_probability, uniforms)
        return self.discriminator.features(images)

    def _uniforms(self, batch: Batch, use: int) -> Tensor | None:
        """The augmentation's numbers: of D's real images (0), of its drawn ones (1), and of G's (2)."""
        if not self.settings.augment:
            return None
        numbers = randomness.uniform(self.settings.seed, Stream.AUGMENT, batch.index, 3 * UNIFORMS)
        return numbers[:, use * UNIFORMS : (use + 1) * UNIFORMS]

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device_type, torch.bfloat16, enabled=self.half)


def _twice(labels: Tensor | None) -> Tensor | None:
    return None if labels is None else torch.cat((labels, labels))


def _joined(uniforms: tuple[Tensor | None, Tensor | None]) -> Tensor | None:
    real, fake = uniforms
    return None if real is None or fake is None else torch.cat((real, fake))

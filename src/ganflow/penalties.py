"""Penalties on D's slope: the gradient of an image's logit by that image, one norm an image.

By `torch.func.grad`, which torch.compile can follow where it cannot follow autograd.grad(create_graph=True).
D must judge every image by itself: under batch norm the gradient of a sum of logits is nobody's slope.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Judge = Callable[[Tensor], Tensor]
"""Images (N, ...) to logits (N,)."""


def squared_slopes(judge: Judge, images: Tensor) -> tuple[Tensor, Tensor]:
    """(|gradient of each image's logit by that image|^2, the logits), both (N,), from one pass."""

    def total(images: Tensor) -> tuple[Tensor, Tensor]:
        logits = judge(images)
        return logits.sum(), logits

    gradients, logits = torch.func.grad(total, has_aux=True)(images)
    return gradients.flatten(1).square().sum(1), logits


def zero_centred(squared: Tensor) -> Tensor:
    """R1 and R2 without gamma: E |slope|^2 / 2 (Mescheder, Geiger and Nowozin 2018)."""
    return squared.mean() / 2


def one_centred(squared: Tensor) -> Tensor:
    """E (|slope| - 1)^2, the norm of each image by itself (Gulrajani et al. 2017)."""
    # The root has no derivative at 0, where a D that ignores its input stands.
    return ((squared + 1e-12).sqrt() - 1).square().mean()


def between(real: Tensor, fake: Tensor, uniforms: Tensor) -> Tensor:
    """WGAN-GP's points: real + u (fake - real), one u an image; uniforms (N, 1)."""
    return torch.lerp(real, fake, uniforms.view(-1, *[1] * (real.dim() - 1)))


def around(real: Tensor, uniforms: Tensor) -> Tensor:
    """DRAGAN's points: real + u σ v / 2, u one number an image and v one a pixel (Kodali et al. 2017).

    uniforms (N, 1 + pixels); σ is the standard deviation of the batch.
    """
    scale, noise = uniforms[:, :1], uniforms[:, 1:]
    return real + real.std() / 2 * (scale * noise).view_as(real)

"""What D's images go through, real and drawn, so that a D with few images cannot learn them by heart.

The operations are DiffAugment's (Zhao et al. 2020): differentiable, so that G learns through them. `adapt` is the
rule of StyleGAN2-ADA (Karras et al. 2020) for how often they are applied. What differs from that paper's pipeline:
its eighteen transformations (flips, rotations, scalings, colour, filters, noise, cutout) are these five here; it
pads by reflection, here the padding is mid-grey; it corrects its probability every fourth step and lets it grow
beyond 1, where `adapt` does it every step and stays within [0, 1].

Nothing here waits for the device or depends on values for its shapes: a CUDA graph can hold it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

NUMBERS = 3
"""Uniforms of each operation: whether it is applied, and two for how."""


def augment(images: Tensor, policy: Sequence[str], probability: Tensor | float, uniforms: Tensor) -> Tensor:
    """The operations of `policy` ("color", "translation", "cutout"), each applied to each image with `probability`.

    images are float32 (N, C, R, R) in [-1, 1]; color can leave that range, as in the paper. `probability` is 1 for
    DiffAugment, or a scalar on the device. `uniforms` are float32 (N, UNIFORMS) in [0, 1), and all the randomness
    there is. The order is the paper's, that of OPERATIONS. An image that nothing is applied to keeps its bits.
    Differentiable in the images to any order.
    """
    slots = uniforms.reshape(-1, len(OPERATIONS), NUMBERS, 1, 1, 1).unbind(1)
    for (name, operation), numbers in zip(OPERATIONS, slots, strict=True):
        if name in policy:
            gate, a, b = numbers.unbind(1)
            images = torch.where(gate < probability, operation(images, a, b), images)
    return images


def adapt(probability: Tensor, sign_real: Tensor, target: float, images: int, adaptation_images: int) -> Tensor:
    """The next probability of augmenting: up where D is too sure of real images, down else.

    `sign_real` is the mean sign of D's logits at the last `images` real images, the paper's r_t, which is 0 at the
    equilibrium and 1 where D knows them all. The step is images / adaptation_images, and the result within [0, 1].
    All scalars on the device.
    """
    step = (sign_real - target).sign() * (images / adaptation_images)
    return (probability + step).clamp(0, 1)


def brightness(images: Tensor, amount: Tensor, _: Tensor) -> Tensor:
    """Add between -0.5 and 0.5, the same to a whole image. The amount is uniform (N, 1, 1, 1), here and below."""
    return images + (amount - 0.5)


def saturation(images: Tensor, amount: Tensor, _: Tensor) -> Tensor:
    """Distance of each pixel to its own grey, times 0 to 2. Grey images stay as they are."""
    grey = images.mean(1, keepdim=True)
    return (images - grey) * (2 * amount) + grey


def contrast(images: Tensor, amount: Tensor, _: Tensor) -> Tensor:
    """Distance of each value to the image's mean, times 0.5 to 1.5."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (amount + 0.5) + mean


def translation(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Move by whole pixels, up to an eighth of the side each way; what comes in is 0, mid-grey."""
    reach = round(images.shape[2] / 8)
    rows, columns = (_moved(images, amount, reach) for amount in (down, right))
    # Products with one-hot matrices are exact in true float32, and their derivatives repeat to the bit: those of a
    # gather add up in whatever order a GPU likes.
    with torch.autocast(images.device.type, enabled=False):
        return rows @ images @ columns.mT


def cutout(images: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """A square of half the side becomes 0, mid-grey; its centre is anywhere, so that the border may cut it off."""
    below, beside = (_covered(images, amount, images.shape[2] // 2) for amount in (row, column))
    return images.masked_fill(below.mT & beside, 0)


def _covered(images: Tensor, amount: Tensor, length: int) -> Tensor:
    """Which places of an axis lie within `length` around a centre of anywhere: bool (N, 1, 1, R)."""
    size = images.shape[2]
    centre = (amount * (size + 1 - length % 2)).floor()
    place = torch.arange(size, device=images.device) - centre + length // 2
    return (place >= 0) & (place < length)


def _moved(images: Tensor, amount: Tensor, reach: int) -> Tensor:
    """One-hot matrices (N, 1, R, R) that move by -reach to reach pixels."""
    offset = (amount * (2 * reach + 1)).floor() - reach
    position = torch.arange(images.shape[2], device=images.device)
    return (position.unsqueeze(1) - offset == position).to(images.dtype)


OPERATIONS = (
    ("color", brightness),
    ("color", saturation),
    ("color", contrast),
    ("translation", translation),
    ("cutout", cutout),
)
"""Policy and operation, in order."""
UNIFORMS = NUMBERS * len(OPERATIONS)
"""Uniforms that an image takes, whatever the policy."""

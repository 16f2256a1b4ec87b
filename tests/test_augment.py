"""Augmentation by hand: what each operation does to a pixel, how often, and its derivatives."""

import pytest
import torch
from torch import Tensor

from ganflow.augment import NUMBERS, OPERATIONS, UNIFORMS, adapt, augment

POLICY = ["color", "translation", "cutout"]
SLOT = {operation.__name__: NUMBERS * i for i, (_, operation) in enumerate(OPERATIONS)}
NEVER = 0.999
"""A gate that a probability of 0.5 leaves closed."""


def uniforms_for(operation: str, *amounts: float, n: int = 1) -> Tensor:
    """Uniforms that open the gate of one operation alone, at a probability of 0.5."""
    uniforms = torch.full((n, UNIFORMS), NEVER)
    uniforms[:, SLOT[operation]] = 0.0
    for i, amount in enumerate(amounts):
        uniforms[:, SLOT[operation] + 1 + i] = amount
    return uniforms


def random_images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def random_uniforms(n: int, seed: int = 1) -> Tensor:
    return torch.rand((n, UNIFORMS), generator=torch.Generator().manual_seed(seed))


def impulse(size: int, row: int, column: int) -> Tensor:
    image = torch.zeros(1, 1, size, size)
    image[0, 0, row, column] = 1
    return image


@pytest.mark.parametrize(("amount", "change"), [(0.0, -0.5), (0.5, 0.0), (0.75, 0.25)])
def test_brightness_is_added(amount, change):
    images = random_images(1, 3, 8, 8)
    changed = augment(images, ["color"], 0.5, uniforms_for("brightness", amount))
    torch.testing.assert_close(changed, images + change)


def test_saturation_scales_the_distance_to_each_pixels_grey():
    image = torch.tensor([0.3, 0.6, -0.3]).view(1, 3, 1, 1).expand(1, 3, 8, 8)  # its grey is 0.2
    changed = augment(image, ["color"], 0.5, uniforms_for("saturation", 0.25))
    torch.testing.assert_close(changed[0, :, 5, 2], torch.tensor([0.25, 0.4, -0.05]))


def test_saturation_leaves_grey_images_to_the_bit():
    images = random_images(4, 1, 8, 8)
    assert torch.equal(augment(images, ["color"], 0.5, uniforms_for("saturation", 0.9, n=4)), images)


def test_contrast_scales_the_distance_to_the_images_mean():
    image = torch.zeros(1, 1, 2, 2)
    image[0, 0] = torch.tensor([[0.8, 0.0], [0.0, 0.0]])  # its mean is 0.2
    changed = augment(image, ["color"], 0.5, uniforms_for("contrast", 0.75))
    torch.testing.assert_close(changed[0, 0], torch.tensor([[0.95, -0.05], [-0.05, -0.05]]))


@pytest.mark.parametrize(
    ("size", "down", "right", "moved"),
    [
        (28, 0.0, 0.0, (-4, -4)),  # 28 / 8 = 3.5, which the paper rounds to 4: nine places each way
        (28, 0.999, 0.5, (4, 0)),
        (28, 0.4, 0.7, (-1, 2)),
        (32, 1 - 2**-24, 0.0, (4, -4)),
        (64, 0.0, 1 - 2**-24, (-8, 8)),
    ],
)
def test_translation_moves_an_impulse(size, down, right, moved):
    changed = augment(impulse(size, 13, 15), ["translation"], 0.5, uniforms_for("translation", down, right))
    assert torch.equal(changed, impulse(size, 13 + moved[0], 15 + moved[1]))


def test_translation_brings_in_mid_grey_and_keeps_the_bits():
    images = random_images(2, 3, 32, 32)
    changed = augment(images, ["translation"], 0.5, uniforms_for("translation", 0.999, 0.0, n=2))
    assert torch.equal(changed[:, :, 4:, :28], images[:, :, :28, 4:])
    assert not changed[:, :, :4].any()
    assert not changed[:, :, :, 28:].any()


@pytest.mark.parametrize(
    ("size", "row", "column", "rows", "columns"),
    [
        (32, 0.5, 0.5, slice(8, 24), slice(8, 24)),
        (32, 0.0, 0.999, slice(0, 8), slice(24, 32)),  # the border cuts it to a quarter
        (28, 0.5, 0.25, slice(7, 21), slice(0, 14)),
    ],
)
def test_cutout_clears_a_square_of_half_the_side(size, row, column, rows, columns):
    images = random_images(1, 3, size, size)
    expected = images.clone()
    expected[:, :, rows, columns] = 0
    assert torch.equal(augment(images, ["cutout"], 0.5, uniforms_for("cutout", row, column)), expected)


@pytest.mark.parametrize("probability", [0.0, torch.tensor(0.0)])
def test_probability_0_keeps_the_bits(probability):
    images, uniforms = random_images(16, 3, 32, 32), random_uniforms(16)
    uniforms[0] = 0
    assert torch.equal(augment(images, POLICY, probability, uniforms), images)


def test_probability_is_the_share_of_images_that_each_operation_changes():
    images, uniforms = random_images(2000, 3, 8, 8), random_uniforms(2000)
    for name, operation in OPERATIONS:
        alone = uniforms.clone()
        for slot in {*SLOT.values()} - {SLOT[operation.__name__]}:
            alone[:, slot] = NEVER
        changed = augment(images, [name], torch.tensor(0.3), alone)
        share = (changed != images).flatten(1).any(1).float().mean().item()
        # A translation by nothing, one of nine, changes nothing: its reach is one pixel here.
        expected = 0.3 * (8 / 9 if name == "translation" else 1)
        assert share == pytest.approx(expected, abs=0.04), operation.__name__


def test_probability_1_is_diffaugment_and_an_empty_policy_nothing():
    images, uniforms = random_images(64, 3, 32, 32), random_uniforms(64)
    assert torch.equal(augment(images, [], 1.0, uniforms), images)
    assert (augment(images, POLICY, 1.0, uniforms) != images).flatten(1).any(1).all()


def test_an_image_does_not_depend_on_its_neighbours():
    images, uniforms = random_images(8, 3, 32, 32), random_uniforms(8)
    together = augment(images, POLICY, 0.8, uniforms)
    alone = torch.cat([augment(images[i : i + 1], POLICY, 0.8, uniforms[i : i + 1]) for i in range(8)])
    torch.testing.assert_close(alone, together, rtol=1e-6, atol=1e-6)


def test_dtype_and_range_of_shapes():
    for channels, size in ((1, 28), (3, 32), (3, 64)):
        images = random_images(3, channels, size, size)
        with torch.autocast("cpu", torch.bfloat16):
            changed = augment(images, POLICY, 1.0, random_uniforms(3))
        assert changed.dtype == torch.float32
        assert torch.equal(changed, augment(images, POLICY, 1.0, random_uniforms(3)))
        assert changed.shape == images.shape


def test_derivatives_of_first_and_second_order():
    images = random_images(3, 3, 8, 8).double().requires_grad_()
    uniforms = random_uniforms(3)

    def curved(images: Tensor) -> Tensor:
        return augment(images, POLICY, 0.7, uniforms).pow(3)

    assert (curved(images) != images.pow(3)).any()
    assert torch.autograd.gradcheck(curved, images, fast_mode=True)
    assert torch.autograd.gradgradcheck(curved, images, fast_mode=True)


def test_func_grad_goes_through_it_and_again():
    images, uniforms = random_images(2, 3, 8, 8).double(), random_uniforms(2)

    def slope(images: Tensor) -> Tensor:
        return torch.func.grad(lambda x: augment(x, POLICY, 1.0, uniforms).pow(3).sum())(images).square().sum()

    leaf = images.clone().requires_grad_()
    value = augment(leaf, POLICY, 1.0, uniforms).pow(3).sum()
    (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), leaf)
    torch.testing.assert_close(torch.func.grad(slope)(images), second)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_graph_holds_it():
    images, uniforms = random_images(8, 3, 32, 32).cuda(), random_uniforms(8).cuda()
    probability = torch.tensor(0.0, device="cuda")
    expected = augment(images, POLICY, 0.7, uniforms)  # and libraries are loaded
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        changed = augment(images, POLICY, probability, uniforms)
    probability.fill_(0.7)
    graph.replay()
    assert torch.equal(changed, expected)


@pytest.mark.parametrize(("sign_real", "probability"), [(0.9, 0.35), (0.2, 0.25), (-1.0, 0.25)])
def test_adapt_moves_by_the_sign(sign_real, probability):
    new = adapt(torch.tensor(0.3), torch.tensor(sign_real), 0.6, 64, 1280)
    assert new.item() == pytest.approx(probability, abs=1e-7)


def test_adapt_stays_a_probability():
    assert adapt(torch.tensor(0.98), torch.tensor(1.0), 0.6, 64, 1280).item() == 1
    assert adapt(torch.tensor(0.02), torch.tensor(0.0), 0.6, 64, 1280).item() == 0


def test_adapt_goes_from_0_to_1_in_the_adaptation_images():
    probability, steps = torch.tensor(0.0), 0
    while probability < 1:
        probability, steps = adapt(probability, torch.tensor(1.0), 0.6, 64, 64_000), steps + 1
    assert steps in (1000, 1001)  # float32

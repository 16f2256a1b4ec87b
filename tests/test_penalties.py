"""Penalties against values by hand, and the bug of one norm for the whole batch, which torchgan has."""

import pytest
import torch

from ganflow.penalties import around, between, one_centred, squared_slopes, zero_centred


def quadratic(images: torch.Tensor) -> torch.Tensor:
    """Logit |x|^2 / 2, whose slope at x is x."""
    return images.flatten(1).square().sum(1) / 2


def test_slopes_are_those_of_each_image():
    images = torch.tensor([3.0, 4.0, 0.0, 1.0]).view(2, 1, 1, 2)
    squared, logits = squared_slopes(quadratic, images)
    assert squared.tolist() == pytest.approx([25, 1])
    assert logits.tolist() == pytest.approx([12.5, 0.5])


def test_r1_by_hand():
    assert zero_centred(torch.tensor([25.0, 1.0])).item() == pytest.approx(6.5)


def test_the_gradient_penalty_takes_the_norm_of_each_image():
    """Norms 5 and 1: ((5-1)^2 + 0) / 2 = 8. One norm of the batch, sqrt(26), would give 16.8."""
    assert one_centred(torch.tensor([25.0, 1.0])).item() == pytest.approx(8)


def test_the_gradient_penalty_has_a_derivative_at_no_slope():
    weight = torch.zeros(2, requires_grad=True)
    squared, _ = squared_slopes(lambda images: (images.flatten(1) * weight).sum(1), torch.ones(3, 1, 1, 2))
    one_centred(squared).backward()
    assert weight.grad.isfinite().all()


def test_penalties_are_differentiable_by_the_weights():
    """D(x) = w·x^2: slope 2wx, R1 = E 2 w^2 x^2, derivative 4 w E x^2."""
    weight = torch.tensor(3.0, requires_grad=True)
    images = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    squared, _ = squared_slopes(lambda x: weight * x.flatten(1).square().sum(1), images)
    (gradient,) = torch.autograd.grad(zero_centred(squared), weight)
    assert gradient.item() == pytest.approx(4 * 3 * 2.5)


def test_wgan_gp_looks_between_real_and_drawn_images():
    real, fake = torch.zeros(2, 1, 2, 2), torch.ones(2, 1, 2, 2)
    points = between(real, fake, torch.tensor([[0.25], [1.0]]))
    assert points.flatten(1).tolist() == [[0.25] * 4, [1.0] * 4]


def test_dragan_looks_around_real_images():
    """The batch (-1, 1) has the standard deviation sqrt 2: 1 + sqrt 2 / 2 * 0.5 * 0.8, and the other unmoved."""
    points = around(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1), torch.tensor([[0.0, 0.9], [0.5, 0.8]]))
    assert points.flatten().tolist() == pytest.approx([-1, 1 + 2**0.5 / 2 * 0.4])

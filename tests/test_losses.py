"""Each loss against a value computed by hand: sigmoid(0) = 1/2, sigmoid(log 3) = 3/4, sigmoid(-log 3) = 1/4."""

import math

import pytest
import torch

from ganflow.losses import LOSSES, cross_entropy, feature_matching

LOG3 = math.log(3)
LOG2 = math.log(2)

# loss, real logits, fake logits, D's loss, G's loss
BY_HAND = [
    ("minimax", [LOG3, 0], [-LOG3, -LOG3], -(math.log(3 / 4) + math.log(1 / 2)) / 2 - math.log(3 / 4), math.log(3 / 4)),
    ("minimax", [0], [LOG3, 0], LOG2 + 1.5 * LOG2, -1.5 * LOG2),
    ("non_saturating", [LOG3, 0], [-LOG3, 0], (3 * LOG2 + math.log(4 / 3) + math.log(4 / 3) - LOG2) / 2,
     (math.log(4) + LOG2) / 2),
    ("least_squares", [2, 0], [0, -3], (1 + 1) / 4 + (1 + 4) / 4, (0 + 9) / 4),
    ("hinge", [2, 0.5], [-2, 0.5], (0 + 0.5) / 2 + (0 + 1.5) / 2, (2 - 0.5) / 2),
    ("wasserstein", [2, 4], [1, -3], -1 - 3, 1),
    ("relativistic", [LOG3, 0], [0, LOG3], (math.log(4 / 3) + math.log(4)) / 2, (math.log(4) + math.log(4 / 3)) / 2),
]  # fmt: skip


def logits(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(("name", "real", "fake", "d", "g"), BY_HAND)
def test_losses_by_hand(name, real, fake, d, g):
    loss = LOSSES[name]
    assert loss.discriminator(logits(real), logits(fake)).item() == pytest.approx(d)
    assert loss.generator(logits(real), logits(fake)).item() == pytest.approx(g)


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_at_equilibrium_is_that_of_logits_that_say_nothing(name):
    loss, zeros = LOSSES[name], logits([0, 0, 0])
    expected = 0 if loss.equilibrium is None else loss.equilibrium
    assert loss.discriminator(zeros, zeros).item() == pytest.approx(expected)


def test_only_the_relativistic_loss_looks_at_real_logits_for_g():
    for name, loss in LOSSES.items():
        real = logits([1.0, -0.5])
        value = loss.generator(real, logits([0.3, 0.2]))
        (gradient,) = torch.autograd.grad(value, real, allow_unused=True)
        assert (gradient is not None) == loss.pairs == (name == "relativistic")


def test_label_smoothing_touches_the_real_side_only():
    expected = -(0.9 * math.log(3 / 4) + 0.1 * math.log(1 / 4)) - math.log(3 / 4)
    assert cross_entropy(logits([LOG3]), logits([-LOG3]), label_smoothing=0.1).item() == pytest.approx(expected)


def test_minimax_is_zero_sum():
    """Whatever G gains D loses: the gradients by the drawn images' logits are opposite."""
    fake = logits([0.3, -1.2])
    loss = LOSSES["minimax"]
    (for_d,) = torch.autograd.grad(loss.discriminator(logits([0.0]), fake), fake)
    (for_g,) = torch.autograd.grad(loss.generator(logits([0.0]), fake), fake)
    assert torch.allclose(for_d, -for_g)


def test_non_saturating_has_a_gradient_where_minimax_has_none():
    fake = logits([-20.0])
    (saturated,) = torch.autograd.grad(LOSSES["minimax"].generator(fake, fake), fake)
    (alive,) = torch.autograd.grad(LOSSES["non_saturating"].generator(fake, fake), fake)
    assert saturated.abs() < 1e-8
    assert alive.abs() > 0.99


def test_extreme_logits_stay_finite():
    for loss in LOSSES.values():
        for player in (loss.discriminator, loss.generator):
            assert player(logits([1e4, -1e4]), logits([-1e4, 1e4])).isfinite()


def test_feature_matching_by_hand():
    """Means (2, 3) and (1, 1): |(1, 2)|^2 = 5."""
    real, fake = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 1.0]])
    assert feature_matching(real, fake).item() == pytest.approx(5)

"""Each loss against a value computed by hand: sigmoid(0) = 1/2, sigmoid(log 3) = 3/4, sigmoid(-log 3) = 1/4."""

import math

import pytest
import torch

from ganflow.losses import GENERATOR_LOSSES, discriminator_loss, minimax, non_saturating

LOG3 = math.log(3)


def logits(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def test_an_undecided_discriminator_loses_two_log_two():
    assert discriminator_loss(logits(0, 0), logits(0)).item() == pytest.approx(2 * math.log(2))


def test_discriminator_loss_by_hand():
    expected = -(math.log(3 / 4) + math.log(1 / 2)) / 2 - math.log(1 - 1 / 4)
    assert discriminator_loss(logits(LOG3, 0), logits(-LOG3, -LOG3)).item() == pytest.approx(expected)


def test_label_smoothing_touches_the_real_side_only():
    expected = -(0.9 * math.log(3 / 4) + 0.1 * math.log(1 / 4)) - math.log(3 / 4)
    assert discriminator_loss(logits(LOG3), logits(-LOG3), label_smoothing=0.1).item() == pytest.approx(expected)


def test_minimax_is_the_zero_sum_game():
    fake, real = logits(LOG3, -1.0), logits(0.5)
    constant = discriminator_loss(real, fake) + minimax(fake)
    assert minimax(logits(LOG3)).item() == pytest.approx(math.log(1 / 4))
    assert constant.item() == pytest.approx(-torch.nn.functional.logsigmoid(real).item())


def test_non_saturating_has_a_gradient_where_minimax_has_none():
    assert non_saturating(logits(LOG3)).item() == pytest.approx(-math.log(3 / 4))
    gradients = {}
    for name, loss in GENERATOR_LOSSES.items():
        fake = logits(-10.0)
        loss(fake).backward()
        gradients[name] = fake.grad.item()
    assert gradients["non_saturating"] == pytest.approx(-1, abs=1e-4)
    assert gradients["minimax"] == pytest.approx(-math.exp(-10), rel=1e-4)

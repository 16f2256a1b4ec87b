import torch
from torch import nn

from ganflow.networks import build_discriminator, build_generator
from ganflow.networks.recurrent import GRU

SIZE = {"width": 2, "resolution": 28, "channels": 3}


def twin(gru):
    """torch's own cell with the same weights."""
    cell = nn.GRUCell(gru.input.in_features, gru.hidden.in_features)
    cell.weight_ih, cell.bias_ih = gru.input.weight, gru.input.bias
    cell.weight_hh, cell.bias_hh = gru.hidden.weight, gru.hidden.bias
    return cell


def test_every_state_is_that_of_torchs_cell():
    torch.manual_seed(0)
    gru = GRU(5, 7, 9)
    x, h = torch.randn(3, 9, 5), torch.randn(3, 7)
    cell, states = twin(gru), gru(gru.input(x).unbind(1), h)
    assert len(states) == 9
    for inputs, state in zip(x.unbind(1), states, strict=True):
        h = cell(inputs, h)
        assert torch.allclose(state, h, atol=1e-6)


def test_the_update_gates_remember_for_1_to_all_steps():
    """Tallec and Ollivier (2018): biases log U(1, T - 1), of the update gate alone."""
    torch.manual_seed(0)
    reset, update, new = GRU(1000, 500, 28).input.bias.detach().chunk(3)
    assert update.exp().min() > 0.99
    assert 26 < update.exp().max() < 27.01
    assert max(reset.abs().max(), new.abs().max()) < 0.04


def test_an_image_is_drawn_row_by_row():
    torch.manual_seed(0)
    generator = build_generator({"name": "recurrent", "latent_dim": 10, **SIZE})
    z = torch.randn(4, 10)
    images, cell, h = generator(z), twin(generator.gru), torch.tanh(generator.start(z))
    for row in range(28):
        h = cell(z, h)
        by_hand = torch.tanh(generator.row(h)).view(4, 3, 28)
        assert torch.allclose(images[:, :, row], by_hand, atol=1e-5)


def test_an_image_is_read_row_by_row_from_the_top():
    torch.manual_seed(0)
    discriminator = build_discriminator({"name": "recurrent", **SIZE})
    images = torch.randn(4, 3, 28, 28)
    cell, h = twin(discriminator.trunk.gru), torch.zeros(4, 16)
    for row in range(28):
        h = cell(images[:, :, row].reshape(4, 84), h)
    assert torch.allclose(discriminator.features(images), h, atol=1e-5)

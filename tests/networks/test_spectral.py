import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from ganflow.networks import build_discriminator
from ganflow.networks.spectral import normalise, power_iteration


def layers(module):
    return [layer for layer in module.modules() if parametrize.is_parametrized(layer)]


def norms(module):
    return [torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() for layer in layers(module)]


def dense():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(30, 20))
    normalise(module)
    return module


@pytest.mark.parametrize("name", ["mlp", "cnn", "dcgan", "recurrent", "r3gan"])
def test_every_weight_of_a_new_discriminator_has_norm_1(name):
    torch.manual_seed(0)
    size = {"width": 8, "resolution": 32, "channels": 3}
    discriminator = build_discriminator({"name": name, **size, "norm": "spectral", "classes": 5})
    matrices = [weight for weight in discriminator.parameters() if weight.dim() > 1]
    assert len(layers(discriminator)) == len(matrices)
    assert norms(discriminator) == pytest.approx([1.0] * len(matrices), rel=1e-2)


def test_the_divisor_is_the_largest_singular_value():
    (layer,) = dense()
    weight = layer.parametrizations.weight.original
    assert torch.allclose(layer.weight * torch.linalg.matrix_norm(weight, 2), weight, rtol=1e-3)


def test_power_iterations_follow_the_weights():
    module = dense()
    vectors = [buffer.data_ptr() for buffer in module.buffers()]
    with torch.no_grad():
        module[0].parametrizations.weight.original.copy_(torch.randn(20, 30))
    (before,) = norms(module)
    assert before > 1.5
    for _ in range(100):
        power_iteration(module)
    assert norms(module) == pytest.approx([1.0], rel=1e-3)
    assert [buffer.data_ptr() for buffer in module.buffers()] == vectors  # in place, for CUDA graphs


def test_one_call_is_one_iteration():
    module = dense()
    layer = module[0].parametrizations.weight
    with torch.no_grad():
        layer.original.copy_(torch.randn(20, 30))
    u, weight = layer[0].u.clone(), layer.original.detach()
    power_iteration(module)
    v = weight.T @ u
    assert torch.allclose(layer[0].v, v / v.norm(), atol=1e-6)
    assert torch.allclose(layer[0].u, weight @ v / (weight @ v).norm(), atol=1e-6)


def test_the_forward_pass_changes_nothing():
    module = dense()
    before = copy.deepcopy(module.state_dict())
    module(torch.randn(4, 30))
    torch.func.grad(lambda x: module(x).sum())(torch.randn(4, 30))
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())


def test_the_gradient_is_the_papers():
    """Equation 12: for the gradient G by W/σ, that by W is (G - <G, W/σ> u vᵀ) / σ."""
    (layer,) = dense()
    part = layer.parametrizations.weight
    gradient = torch.randn(20, 30)
    (found,) = torch.autograd.grad((layer.weight * gradient).sum(), part.original)
    u, v, weight = part[0].u, part[0].v, part.original.detach()
    sigma = u @ weight @ v
    by_hand = (gradient - (gradient * weight).sum() / sigma * torch.outer(u, v)) / sigma
    assert torch.allclose(found, by_hand, atol=1e-5)


def test_16_bits_leave_the_norm_in_32():
    (layer,) = dense()
    with torch.autocast("cpu", torch.bfloat16):
        weight = layer.weight
    assert torch.equal(weight, layer.weight)


def test_the_seed_decides_where_it_starts():
    one, same = dense(), dense()
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), same.buffers(), strict=True))


def test_other_modules_are_left_alone():
    plain = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    before = copy.deepcopy(plain.state_dict())
    power_iteration(plain)
    assert all(torch.equal(before[key], value) for key, value in plain.state_dict().items())
    normalise(plain)
    assert len(layers(plain)) == 1

import pytest
import torch
from torch import nn

from ganflow.networks import build_discriminator, build_generator
from ganflow.networks.r3gan import Block
from ganflow.networks.stages import Double, Halve


def make(**size):
    size = {"width": 16, "resolution": 32, "channels": 3} | size
    torch.manual_seed(0)
    generator = build_generator({"name": "r3gan", "latent_dim": 64, **size})
    return generator, build_discriminator({"name": "r3gan", **size})


def count(network):
    return sum(weight.numel() for weight in network.parameters())


def blocks(network):
    return [layer for layer in network.modules() if isinstance(layer, Block)]


def test_the_papers_parameters():
    """Huang et al. (2024), config E for FFHQ-256: 23.058 and 23.010 million."""
    with torch.device("meta"):
        generator, discriminator = make(width=96, resolution=256)
    assert round(count(generator) / 1e6, 3) == 23.058
    assert round(count(discriminator) / 1e6, 3) == 23.010


@pytest.mark.parametrize("resolution", [28, 32, 64, 256])
def test_two_blocks_a_side_and_16_channels_a_group(resolution):
    with torch.device("meta"):
        networks = make(width=384, resolution=resolution)
    for network in networks:
        mixes = [block.mix for block in blocks(network)]
        assert len(mixes) == 2 * len({28: (7, 14, 28), 32: range(4), 64: range(5), 256: range(7)}[resolution])
        assert all(mix.in_channels == 16 * mix.groups for mix in mixes)
        assert sorted({mix.in_channels for mix in mixes}) == [768, 1536]  # 384 nearest the image, else 768, doubled


def test_every_residual_branch_starts_as_nothing():
    torch.manual_seed(0)
    for network in make():
        for block in blocks(network):
            x = torch.randn(2, block.expand.in_channels, 5, 5)
            assert torch.equal(block(x), x)
            with torch.no_grad():
                block.project.weight.fill_(0.01)
            assert not torch.allclose(block(x), x, atol=1e-3)


def test_the_branchs_first_weights_are_hes_scaled_by_the_depth():
    """Fix-up (Zhang et al. 2019) with branches of three layers: L^(-1/4), here of L = 8 blocks."""
    generator, _ = make(width=64)
    for block in blocks(generator):
        for layer in (block.expand, block.mix):
            he = (2 / 1.04 / layer.weight[0].numel()) ** 0.5
            assert layer.weight.std().item() == pytest.approx(he * 8**-0.25, rel=0.05)
            assert not layer.bias.any()


def test_a_width_that_16_does_not_divide_has_smaller_groups():
    mixes = [block.mix for block in blocks(make(width=10)[0])]
    groups = {(mix.in_channels, mix.in_channels // mix.groups) for mix in mixes}
    assert groups == {(20, 4), (40, 8), (80, 16), (160, 16)}


def test_doubling_by_hand():
    """Each even pixel is a pixel, each odd one the mean of its neighbours, with zeros outside."""
    row = torch.tensor([0.0, 4.0, 8.0])
    doubled = Double()(row.outer(torch.ones(3))[None, None])[0, 0]
    assert doubled[:, 2].tolist() == [0, 2, 4, 6, 8, 4]
    assert doubled[2].tolist() == [4, 4, 4, 4, 4, 2]


def test_halving_by_hand():
    """(1, 2, 1) / 4 around each even pixel."""
    row = torch.tensor([0.0, 4.0, 8.0, 20.0])
    halved = Halve()(row.outer(torch.ones(4))[None, None])[0, 0]
    assert halved[:, 1].tolist() == [1, 10]  # (2 * 0 + 4) / 4 and (4 + 2 * 8 + 20) / 4


def test_halving_is_the_adjoint_of_doubling_over_4():
    small, large = torch.randn(1, 2, 3, 3), torch.randn(1, 2, 6, 6)
    assert (Double()(small) * large).sum().item() == pytest.approx(4 * (small * Halve()(large)).sum().item(), rel=1e-4)


def test_the_generator_starts_from_a_basis_scaled_by_z():
    generator, _ = make()
    z = torch.randn(2, 64)
    start = (generator.scale(z)[:, :, None, None] * generator.basis).clone()
    assert start.shape == (2, 128, 4, 4)
    assert start.std().item() == pytest.approx(1, rel=0.1)
    assert torch.allclose(generator(z), generator.layers(start))


def test_a_channels_smallest_map_becomes_one_feature():
    _, discriminator = make()
    last = [layer for layer in discriminator.trunk if isinstance(layer, nn.Conv2d)][-1]
    assert (last.kernel_size, last.groups, last.in_channels) == ((4, 4), 128, 128)
    assert discriminator.logit.in_features == 128


def test_under_spectral_norm_no_weight_is_zero():
    torch.manual_seed(0)
    size = {"width": 8, "resolution": 28, "channels": 1}
    discriminator = build_discriminator({"name": "r3gan", **size, "norm": "spectral"})
    assert all(block.project.weight.abs().max() > 0 for block in blocks(discriminator))
    assert discriminator(torch.randn(2, 1, 28, 28)).isfinite().all()

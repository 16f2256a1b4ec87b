import pytest
import torch

from ganflow.errors import ConfigError
from ganflow.networks import DISCRIMINATORS, GENERATORS, build_discriminator, build_generator


def count(network):
    return sum(weight.numel() for weight in network.parameters())


def size(resolution=28, channels=1, width=8):
    return {"width": width, "resolution": resolution, "channels": channels}


@pytest.mark.parametrize("name", GENERATORS)
@pytest.mark.parametrize(("resolution", "channels"), [(28, 1), (32, 3), (64, 1), (128, 3)])
def test_generators_draw_images_in_range(name, resolution, channels):
    if name == "tf2_tutorial" and resolution != 28:
        pytest.skip("the tutorial's pair draws 28x28 only")
    generator = build_generator({"name": name, "latent_dim": 10, **size(resolution, channels)})
    images = generator(torch.randn(3, 10))
    assert images.shape == (3, channels, resolution, resolution)
    assert images.abs().max() <= 1


@pytest.mark.parametrize("name", DISCRIMINATORS)
@pytest.mark.parametrize(("resolution", "channels"), [(28, 1), (32, 3), (64, 1), (128, 3)])
def test_discriminators_give_a_logit_an_image(name, resolution, channels):
    if name == "tf2_tutorial" and resolution != 28:
        pytest.skip("the tutorial's pair reads 28x28 only")
    discriminator = build_discriminator({"name": name, **size(resolution, channels)})
    assert discriminator(torch.randn(3, channels, resolution, resolution)).shape == (3,)


def test_the_tutorials_pair_has_its_parameter_counts():
    # model.summary() prints 2,330,944 in all for the generator, of which 25,472 are batch-norm statistics.
    generator = build_generator({"name": "tf2_tutorial", "latent_dim": 100, **size()})
    assert count(generator) == 2_305_472
    assert count(build_discriminator({"name": "tf2_tutorial", **size()})) == 212_865


def test_the_missions_mlp_maps_100_numbers_to_a_28x28_image():
    generator = build_generator({"name": "mlp", "latent_dim": 100, **size(width=32)})
    assert [tuple(layer.weight.shape) for layer in generator.layers if hasattr(layer, "weight")] == [
        (256, 100),
        (512, 256),
        (1024, 512),
        (784, 1024),
    ]


def test_same_padding_is_tensorflows():
    """A stride-2 5x5 "same" convolution of 28 pixels pads 1 before and 2 after; by hand on an impulse."""
    discriminator = build_discriminator({"name": "tf2_tutorial", **size()})
    image = torch.zeros(1, 1, 28, 28)
    image[0, 0, 0, 0] = 1
    padded = torch.nn.functional.pad(image, (1, 2, 1, 2))
    weight = discriminator.down1.weight
    with torch.no_grad():
        discriminator.down1.bias.zero_()
        corner = discriminator.down1(padded)[0, :, 0, 0]
    # Output (0, 0) sees input rows -1..3: the impulse at row 0 meets kernel row 1.
    assert torch.allclose(corner, weight[:, 0, 1, 1])


def test_transposed_same_padding_is_tensorflows():
    """TF's transposed convolution is the gradient of its "same" convolution: input 0 reaches outputs -1..3."""
    generator = build_generator({"name": "tf2_tutorial", "latent_dim": 4, **size()})
    impulse = torch.zeros(1, 64, 14, 14)
    impulse[0, 0, 3, 3] = 1
    with torch.no_grad():
        out = generator.up3(impulse)[0, 0, :28, :28]
    assert torch.allclose(out[5:10, 5:10], generator.up3.weight[0, 0])
    assert out.abs().sum() == pytest.approx(generator.up3.weight[0, 0].abs().sum().item(), rel=1e-5)


def test_batch_norm_keeps_keras_defaults():
    norms = [
        m
        for m in build_generator({"name": "tf2_tutorial", "latent_dim": 4, **size()}).modules()
        if hasattr(m, "running_mean")
    ]
    assert [(norm.eps, norm.momentum) for norm in norms] == [(1e-3, 0.01)] * 3


def test_what_a_network_cannot_draw_is_one_sentence():
    with pytest.raises(ConfigError, match="tf2_tutorial draws 28x28 images of 1 channel, not 64x64 of 3; use dcgan"):
        build_generator({"name": "tf2_tutorial", "latent_dim": 4, **size(64, 3)})
    with pytest.raises(ConfigError, match="no network named 'vae'; known are dcgan, mlp, tf2_tutorial"):
        build_generator({"name": "vae"})

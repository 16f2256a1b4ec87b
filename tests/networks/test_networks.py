import pytest
import torch

from ganflow.errors import ConfigError
from ganflow.networks import DISCRIMINATORS, GENERATORS, build_discriminator, build_generator
from ganflow.networks.spectral import power_iteration

FAMILIES = [name for name in GENERATORS if name != "tf2_tutorial"]
SIZES = [(resolution, channels) for resolution in (28, 32, 64) for channels in (1, 3)]


def count(network):
    return sum(weight.numel() for weight in network.parameters())


def size(resolution=28, channels=1, width=4):
    return {"width": width, "resolution": resolution, "channels": channels}


def both(name, **changes):
    shape = size() | changes
    return build_generator({"name": name, "latent_dim": 10, **shape}), build_discriminator({"name": name, **shape})


def assert_plays(name, resolution, channels):
    """G draws images in range, D gives each a logit; in either memory layout."""
    generator, discriminator = both(name, resolution=resolution, channels=channels)
    images = generator(torch.randn(3, 10))
    assert images.shape == (3, channels, resolution, resolution)
    assert images.abs().max() <= 1
    assert images.std(0).mean() > 1e-3  # another z, another image
    discriminator.eval()
    logits = discriminator(images)
    assert logits.shape == (3,)
    assert discriminator.features(images).shape == (3, discriminator.logit.in_features)
    assert torch.allclose(discriminator(images.contiguous(memory_format=torch.channels_last)), logits, atol=1e-5)


@pytest.mark.parametrize(("resolution", "channels"), SIZES)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_draws_and_reads_every_size(name, resolution, channels):
    assert_plays(name, resolution, channels)


@pytest.mark.slow
@pytest.mark.parametrize("resolution", [128, 256])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_draws_and_reads_large_images(name, resolution):
    assert_plays(name, resolution, 3)


@pytest.mark.parametrize("norm", ["own", "none", "spectral"])
@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_waits_for_the_device(name, norm):
    """The meta device has shapes and no values: whoever asks for a value, or a shape made of values, fails."""
    shape = {"name": name, **size(28, 3, 2), "classes": 3}
    generator = build_generator({"latent_dim": 10, **shape}).to("meta")
    discriminator = build_discriminator({"norm": norm, **shape}).to("meta")
    z, labels = torch.zeros(2, 10, device="meta"), torch.zeros(2, dtype=torch.int64, device="meta")
    power_iteration(discriminator)
    images = generator(z, labels)
    discriminator(images, labels).sum().backward()
    if discriminator.per_sample:
        assert torch.func.grad(lambda x: discriminator(x, labels).sum())(images).shape == images.shape


def test_the_tutorials_pair_plays():
    assert_plays("tf2_tutorial", 28, 1)


def test_the_tutorials_pair_has_its_parameter_counts():
    # model.summary() prints 2,330,944 in all for the generator, of which 25,472 are batch-norm statistics.
    generator = build_generator({"name": "tf2_tutorial", "latent_dim": 100, **size()})
    assert count(generator) == 2_305_472
    assert count(build_discriminator({"name": "tf2_tutorial", **size()})) == 212_865


def test_the_missions_mlp_maps_100_numbers_to_a_28x28_image_and_back_to_a_logit():
    shape = size(width=32)
    generator = build_generator({"name": "mlp", "latent_dim": 100, **shape})
    discriminator = build_discriminator({"name": "mlp", **shape})
    drawn = [(256, 100), (512, 256), (1024, 512), (784, 1024)]
    assert [tuple(layer.weight.shape) for layer in generator.layers if hasattr(layer, "weight")] == drawn
    read = [(1024, 784), (512, 1024), (256, 512), (1, 256)]
    assert [tuple(weight.shape) for weight in discriminator.parameters() if weight.dim() == 2] == read


def test_the_small_cnn_keeps_the_variance_of_its_noise():
    """He's weights: without them seven layers would draw the same grey for every z."""
    torch.manual_seed(0)
    generator = build_generator({"name": "cnn", "latent_dim": 64, **size(256, 3, 8)})
    assert generator(torch.randn(16, 64)).std(0).mean() > 0.2


def test_names_and_first_weights_of_a_registered_generator_stay():
    """Registered models are loaded by these names; the draws of torch's generator come in this order."""
    torch.manual_seed(0)
    generator = build_generator({"name": "dcgan", "latent_dim": 10, **size()})
    torch.manual_seed(0)
    first = torch.nn.Linear(10, 8 * 49, bias=False)  # every layer is made before any gets the paper's weights
    for layer in ((8, 4), (4, 1)):
        torch.nn.ConvTranspose2d(*layer, 4, bias=layer[1] == 1)
    torch.nn.init.normal_(first.weight, 0.0, 0.02)
    assert torch.equal(generator.project.weight, first.weight)
    norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]
    layers = [*(f"layers.0.{name}" for name in norm), "layers.2.weight", *(f"layers.3.{name}" for name in norm)]
    assert list(generator.state_dict()) == ["project.weight", *layers, "layers.5.weight", "layers.5.bias"]


def test_same_padding_is_tensorflows():
    """A stride-2 5x5 "same" convolution of 28 pixels pads 1 before and 2 after; by hand on an impulse."""
    discriminator, seen = build_discriminator({"name": "tf2_tutorial", **size()}), []
    down1 = discriminator.trunk.down1
    down1.register_forward_hook(lambda layer, inputs, output: seen.append(output))
    image = torch.zeros(1, 1, 28, 28)
    image[0, 0, 0, 0] = 1
    discriminator(image)
    corner = seen[0][0, :, 0, 0]
    # Output (0, 0) sees input rows -1..3: the impulse at row 0 meets kernel row 1.
    assert torch.allclose(corner, down1.weight[:, 0, 1, 1])


def test_transposed_same_padding_is_tensorflows():
    """TF's transposed convolution is the gradient of its "same" convolution: input 0 reaches outputs -1..3."""
    generator = build_generator({"name": "tf2_tutorial", "latent_dim": 4, **size()})
    impulse = torch.zeros(1, 64, 14, 14)
    impulse[0, 0, 3, 3] = 1
    with torch.no_grad():
        out = generator.up3(impulse)[0, 0, :28, :28]
    assert torch.allclose(out[5:10, 5:10], generator.up3.weight[0, 0])
    assert out.abs().sum() == pytest.approx(generator.up3.weight[0, 0].abs().sum().item(), rel=1e-5)


@pytest.mark.parametrize("name", GENERATORS)
def test_batch_norms_epsilon_is_torchs_or_keras(name):
    """PyTorch-GAN's `BatchNorm2d(n, 0.8)` means a momentum, and sets epsilon."""
    norms = [layer for network in both(name) for layer in network.modules() if hasattr(layer, "running_mean")]
    assert len(norms) == {"dcgan": 3, "tf2_tutorial": 3}.get(name, 0)
    right = (1e-3, 0.01) if name == "tf2_tutorial" else (1e-5, 0.1)
    assert all((norm.eps, norm.momentum) == right for norm in norms)


def test_what_a_network_cannot_draw_is_one_sentence():
    with pytest.raises(ConfigError, match="tf2_tutorial draws 28x28 images of 1 channel, not 64x64 of 3; use dcgan"):
        build_generator({"name": "tf2_tutorial", "latent_dim": 4, **size(64, 3)})
    with pytest.raises(ConfigError, match="tf2_tutorial draws 28x28 images of 1 channel, not 64x64 of 3; use dcgan"):
        build_discriminator({"name": "tf2_tutorial", **size(64, 3)})
    with pytest.raises(ConfigError, match="no network named 'vae'; known are dcgan, mlp, cnn, recurrent, r3gan, tf2"):
        build_generator({"name": "vae"})


def test_both_sides_know_the_same_families():
    assert list(GENERATORS) == list(DISCRIMINATORS)

"""What a penalty and a class ask of D, family by family."""

import pytest
import torch
from torch import nn

from ganflow.networks import DISCRIMINATORS, build_discriminator

FAMILIES = [name for name in DISCRIMINATORS if name != "tf2_tutorial"]
SIZE = {"width": 4, "resolution": 28, "channels": 1}


def make(name, seed=0, **changes):
    """A D away from its first weights, some of which are zero."""
    torch.manual_seed(seed)
    discriminator = build_discriminator({"name": name, **SIZE, **changes})
    with torch.no_grad():
        for weight in discriminator.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return discriminator


@pytest.mark.parametrize("norm", ["own", "spectral", "none"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_logit_depends_on_its_image_alone_where_d_says_so(name, norm):
    discriminator = make(name, norm=norm)
    images = torch.randn(5, 1, 28, 28)
    one_by_one = torch.cat([discriminator(image[None]) for image in images])
    assert torch.allclose(discriminator(images), one_by_one, atol=1e-4) == discriminator.per_sample
    assert discriminator.per_sample == ((name, norm) != ("dcgan", "own"))


def test_d_says_whether_it_draws_random_numbers():
    images = torch.randn(2, 1, 28, 28)
    for name in DISCRIMINATORS:
        discriminator = make(name, norm="none")
        same = torch.equal(discriminator(images), discriminator(images))
        assert same != discriminator.stochastic
        assert discriminator.stochastic == (name == "tf2_tutorial")


def penalty(discriminator, images):
    """R1 without gamma, by torch.func as the engine has it."""
    return torch.func.grad(lambda x: discriminator(x).sum())(images).square().sum()


@pytest.mark.parametrize("norm", ["spectral", "none"])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_penaltys_gradient_by_the_weights_is_its_finite_difference(name, norm):
    discriminator = make(name, norm=norm).double()
    images = torch.randn(2, 1, 28, 28, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    weights = list(discriminator.parameters())
    gradients = torch.autograd.grad(penalty(discriminator, images), weights, allow_unused=True)
    assert sum(gradient is not None for gradient in gradients) >= len(weights) // 2
    direction = [torch.randn_like(weight) for weight in weights]
    values = []
    for step in (1e-8, -1e-8):  # so near that no LeakyReLU turns
        with torch.no_grad():
            for weight, way in zip(weights, direction, strict=True):
                weight += step * way
            values.append(penalty(discriminator, images))
            for weight, way in zip(weights, direction, strict=True):
                weight -= step * way
    slope = sum((g * way).sum() for g, way in zip(gradients, direction, strict=True) if g is not None)
    assert slope.item() == pytest.approx((values[0] - values[1]).item() / 2e-8, rel=1e-3)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_logit_is_linear_in_the_features(name):
    """What feature matching compares is what the logit is computed from."""
    discriminator = make(name, norm="none")
    images = torch.randn(3, 1, 28, 28)
    features = discriminator.features(images)
    by_hand = features @ discriminator.logit.weight[0] + discriminator.logit.bias
    assert torch.allclose(discriminator(images), by_hand, atol=1e-5)


@pytest.mark.parametrize("norm", ["own", "spectral"])
def test_the_class_is_projected_on_the_features(norm):
    """Miyato and Koyama (2018): w·h + b + e_y·h, by hand."""
    discriminator = make("cnn", classes=3, norm=norm)
    images, labels = torch.randn(4, 1, 28, 28), torch.tensor([0, 2, 1, 2])
    features = discriminator.features(images)
    logits = []
    for h, y in zip(features, labels, strict=True):
        logits.append(
            (discriminator.logit.weight[0] + discriminator.embedding.weight[y]) @ h + discriminator.logit.bias
        )
    assert torch.allclose(discriminator(images, labels), torch.cat(logits), atol=1e-6)
    assert torch.equal(discriminator(images, labels), discriminator.head(features, labels))


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_another_class_another_logit(name):
    discriminator = make(name, classes=3).eval()
    images = torch.randn(4, 1, 28, 28)
    one, other = (discriminator(images, torch.full((4,), label)) for label in (0, 1))
    assert not torch.isclose(one, other).any()


@pytest.mark.parametrize("classes", [None, 0])
def test_no_classes_no_embedding(classes):
    discriminator = build_discriminator({"name": "mlp", **SIZE, "classes": classes})
    assert not [layer for layer in discriminator.modules() if isinstance(layer, nn.Embedding)]
    assert discriminator(torch.randn(2, 1, 28, 28), None).shape == (2,)


def test_no_batch_norm_in_dcgan_means_biases_in_its_place():
    own, none = (build_discriminator({"name": "dcgan", **SIZE, "norm": norm}) for norm in ("own", "none"))
    assert [layer.bias is not None for layer in own.trunk if isinstance(layer, nn.Conv2d)] == [True, False]
    assert [layer.bias is not None for layer in none.trunk if isinstance(layer, nn.Conv2d)] == [True, True]
    assert [type(layer) for layer in own.trunk if not isinstance(layer, nn.BatchNorm2d)] == [*map(type, none.trunk)]

import pytest
import torch

from ganflow.networks import GENERATORS, build_generator

ARCHITECTURE = {"latent_dim": 6, "width": 4, "resolution": 28, "channels": 1}


def make(name, **changes):
    torch.manual_seed(0)
    return build_generator({"name": name, **ARCHITECTURE, **changes})


@pytest.mark.parametrize("name", GENERATORS)
def test_another_class_another_image(name):
    generator = make(name, classes=3).eval()
    z = torch.randn(4, 6)
    one, other = (generator(z, torch.full((4,), label)) for label in (0, 1))
    assert one.shape == (4, 1, 28, 28)
    assert ((one - other).abs().amax((1, 2, 3)) > 0.05 * one.abs().amax((1, 2, 3))).all()
    plain = make(name)
    assert (generator.per_sample, generator.stochastic) == (plain.per_sample, plain.stochastic)


@pytest.mark.parametrize("name", GENERATORS)
def test_an_image_depends_on_its_latent_alone_where_g_says_so(name):
    generator, z = make(name), torch.randn(5, 6)
    two = generator(z[:2])
    assert torch.allclose(generator(z)[:2], two, atol=1e-5) == generator.per_sample
    assert torch.equal(generator(z[:2]), two)
    assert not generator.stochastic


def test_the_class_joins_the_noise_at_its_length():
    """By hand: the inner generator sees z, then the class's vector scaled to the length √6."""
    generator = make("mlp", classes=3)
    z, labels = torch.randn(4, 6), torch.tensor([2, 0, 1, 2])
    vectors = torch.stack([generator.embedding.weight[y] for y in labels])
    vectors = vectors / vectors.norm(dim=1, keepdim=True) * 6**0.5
    assert torch.allclose(generator(z, labels), generator.generator(torch.cat([z, vectors], 1)), atol=1e-6)


@pytest.mark.parametrize("classes", [None, 0])
def test_without_classes_the_generator_is_the_familys_own(classes):
    plain, same = make("dcgan"), make("dcgan", classes=classes)
    assert type(same) is type(plain)
    assert all(torch.equal(plain.state_dict()[key], value) for key, value in same.state_dict().items())
    assert list(same.state_dict()) == list(plain.state_dict())


def test_the_classes_frequencies_are_saved_with_the_weights():
    generator = make("mlp", classes=4)
    assert torch.equal(generator.state_dict()["frequencies"], torch.full((4,), 0.25))
    generator.frequencies.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]))
    again = make("mlp", classes=4)
    again.load_state_dict(generator.state_dict())
    assert again.frequencies.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4])

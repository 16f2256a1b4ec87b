"""The players. One file a family; a network is built by name from what model.json records.

Every generator maps latents float32 (N, latent_dim) to images in [-1, 1], float32 (N, C, R, R); every discriminator
maps such images to logits (N,). With `classes`, both take labels int64 (N,) as a second argument. Both tell
`per_sample`, whether an image's output depends on that image alone, and `stochastic`, whether they draw random numbers.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from ganflow.errors import ConfigError
from ganflow.networks import cnn, dcgan, mlp, r3gan, recurrent, tf2_tutorial
from ganflow.networks.conditional import ConditionalGenerator
from ganflow.networks.discriminator import Discriminator

GENERATORS: dict[str, Callable[..., nn.Module]] = {
    "dcgan": dcgan.Generator,
    "mlp": mlp.Generator,
    "cnn": cnn.Generator,
    "recurrent": recurrent.Generator,
    "r3gan": r3gan.Generator,
    "tf2_tutorial": tf2_tutorial.Generator,
}
DISCRIMINATORS: dict[str, Callable[..., Discriminator]] = {
    "dcgan": dcgan.discriminator,
    "mlp": mlp.discriminator,
    "cnn": cnn.discriminator,
    "recurrent": recurrent.discriminator,
    "r3gan": r3gan.discriminator,
    "tf2_tutorial": tf2_tutorial.discriminator,
}

__all__ = ["DISCRIMINATORS", "GENERATORS", "build_discriminator", "build_generator"]

Maker = TypeVar("Maker")


def build_generator(architecture: Mapping[str, Any]) -> nn.Module:
    """Build from {name, latent_dim, width, resolution, channels, classes?}; without classes it takes no labels.

    Raises ConfigError for a size that the family lacks.
    """
    arguments = dict(architecture)
    make = _named(GENERATORS, arguments.pop("name"))
    classes = arguments.pop("classes", None)
    return ConditionalGenerator(make, classes=classes, **arguments) if classes else make(**arguments)


def build_discriminator(architecture: Mapping[str, Any]) -> Discriminator:
    """Build from {name, width, resolution, channels, classes?, norm?}.

    norm: "own", the family's (batch norm in dcgan, none elsewhere), "spectral" or "none". Raises ConfigError for a
    size that the family lacks.
    """
    arguments = {"norm": "own", **architecture}
    make = _named(DISCRIMINATORS, arguments.pop("name"))
    classes = arguments.pop("classes", None)
    return make(classes=classes or 0, **arguments)


def _named(networks: Mapping[str, Maker], name: str) -> Maker:
    if name not in networks:
        raise ConfigError(f"there is no network named {name!r}; known are {', '.join(networks)}")
    return networks[name]

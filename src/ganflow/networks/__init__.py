"""The players. One file a family; a network is built by name from what model.json records.

Every generator maps latents float32 (N, latent_dim) to images in [-1, 1], float32 (N, C, R, R); every discriminator
maps such images to logits (N,).
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from ganflow.errors import ConfigError
from ganflow.networks import cnn, dcgan, mlp, tf2_tutorial

GENERATORS: dict[str, Callable[..., nn.Module]] = {
    "dcgan": dcgan.Generator,
    "mlp": mlp.Generator,
    "tf2_tutorial": tf2_tutorial.Generator,
}
DISCRIMINATORS: dict[str, Callable[..., nn.Module]] = {
    "cnn": cnn.Discriminator,
    "dcgan": dcgan.Discriminator,
    "tf2_tutorial": tf2_tutorial.Discriminator,
}

__all__ = ["DISCRIMINATORS", "GENERATORS", "build_discriminator", "build_generator"]


def build_generator(architecture: Mapping[str, Any]) -> nn.Module:
    """Build from {name, latent_dim, width, resolution, channels}. Raises ConfigError for a size it lacks."""
    return _build(GENERATORS, architecture)


def build_discriminator(architecture: Mapping[str, Any]) -> nn.Module:
    """Build from {name, width, resolution, channels}. Raises ConfigError for a size it lacks."""
    return _build(DISCRIMINATORS, architecture)


def _build(networks: Mapping[str, Callable[..., nn.Module]], architecture: Mapping[str, Any]) -> nn.Module:
    arguments = dict(architecture)
    name = arguments.pop("name")
    if name not in networks:
        raise ConfigError(f"there is no network named {name!r}; known are {', '.join(networks)}")
    return networks[name](**arguments)

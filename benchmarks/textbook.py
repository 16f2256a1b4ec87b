"""The loops that people start from, on the same networks and batches: what the training engine is measured against.

`Textbook` is the DCGAN loop of the PyTorch tutorial: a DataLoader, Adam over a list of tensors, D's weight gradients
computed in G's step too, and four `.item()` a step. `Ignite` is the same update under pytorch-ignite's engine,
`Torchgan` is torchgan's own training operations.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.utils.data import DataLoader, Dataset

from ganflow.config import Train
from ganflow.images import Images
from ganflow.training.state import State


class Pixels(Dataset[Tensor]):
    """uint8 images (N, C, R, R) as float32 in [-1, 1], one by one."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __len__(self) -> int:
        """How many."""
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        """One image (C, R, R)."""
        return torch.from_numpy(np.array(self.images[index])).float().div_(127.5).sub_(1)


class Peer:
    """Networks with the engine's first weights, on the engine's device, in torch's own layout."""

    def __init__(self, state: State, settings: Train, images: Images, networks: tuple[nn.Module, nn.Module]) -> None:
        self.generator, self.discriminator = networks
        self.generator.load_state_dict(state.generator.network.state_dict())
        self.discriminator.load_state_dict(state.discriminator.network.state_dict())
        self.device, self.settings = state.device, settings
        for network in networks:
            network.to(self.device).train()
        rate, betas = settings.learning_rate, (settings.beta1, settings.beta2)
        self.adam_g = torch.optim.Adam(self.generator.parameters(), rate, betas)
        self.adam_d = torch.optim.Adam(self.discriminator.parameters(), rate, betas)
        self.loader = DataLoader(
            Pixels(images), settings.batch_size, shuffle=True, drop_last=True, pin_memory=self.device.type == "cuda"
        )
        self.batches = self._batches()

    def steps(self, count: int) -> None:
        """As many steps, each on the loader's next batch."""
        for _ in range(count):
            self.step(next(self.batches), torch.randn(self.settings.batch_size, self.settings.latent_dim))

    def step(self, real: Tensor, noise: Tensor) -> tuple[float, float]:
        """An update of both players; returns the losses of D and G."""
        raise NotImplementedError

    def _batches(self) -> Iterator[Tensor]:
        while True:
            yield from self.loader


class Textbook(Peer):
    """The loop of the PyTorch DCGAN tutorial."""

    def step(self, real: Tensor, noise: Tensor) -> tuple[float, float]:
        """The tutorial's lines."""
        real, noise = real.to(self.device), noise.to(self.device)
        ones, zeros = torch.ones(len(real), device=self.device), torch.zeros(len(real), device=self.device)
        self.discriminator.zero_grad()
        output = self.discriminator(real)
        loss_real = bce(output, ones)
        loss_real.backward()  # type: ignore[no-untyped-call]
        output.sigmoid().mean().item()
        fake = self.generator(noise)
        output = self.discriminator(fake.detach())
        loss_fake = bce(output, zeros)
        loss_fake.backward()  # type: ignore[no-untyped-call]
        output.sigmoid().mean().item()
        self.adam_d.step()
        self.generator.zero_grad()
        loss_g = bce(self.discriminator(fake), ones)
        loss_g.backward()  # type: ignore[no-untyped-call]
        self.adam_g.step()
        return (loss_real + loss_fake).item(), loss_g.item()


class Ignite(Textbook):
    """The same update, driven by pytorch-ignite's engine with its running averages."""

    def __init__(self, state: State, settings: Train, images: Images, networks: tuple[nn.Module, nn.Module]) -> None:
        super().__init__(state, settings, images, networks)
        from ignite.engine import Engine
        from ignite.metrics import RunningAverage

        self.engine = Engine(self._update)
        for index, name in enumerate(("loss_d", "loss_g")):
            RunningAverage(output_transform=lambda output, index=index: output[index]).attach(self.engine, name)

    def steps(self, count: int) -> None:
        """As many steps of the engine."""
        self.engine.run(self.loader, max_iters=count)
        self.engine.state.max_iters = self.engine.state.max_epochs = None

    def _update(self, engine: Any, real: Tensor) -> tuple[float, float]:
        return self.step(real, torch.randn(self.settings.batch_size, self.settings.latent_dim))


class Torchgan(Peer):
    """torchgan's own training operations of the non-saturating game."""

    def __init__(self, state: State, settings: Train, images: Images, networks: tuple[nn.Module, nn.Module]) -> None:
        super().__init__(state, settings, images, networks)
        from torchgan.losses import MinimaxDiscriminatorLoss, MinimaxGeneratorLoss
        from torchgan.models import Discriminator, Generator

        self.g, self.d = Generator(settings.latent_dim), Discriminator(settings.latent_dim)
        self.g.forward, self.d.forward = self.generator.forward, self.discriminator.forward
        self.g.network, self.d.network = self.generator, self.discriminator
        self.loss_g, self.loss_d = MinimaxGeneratorLoss(nonsaturating=True), MinimaxDiscriminatorLoss()

    def step(self, real: Tensor, noise: Tensor) -> tuple[float, float]:
        """Its two operations, as its trainer calls them; it draws its noise itself."""
        real = real.to(self.device)
        loss_d = self.loss_d.train_ops(self.g, self.d, self.adam_d, real, self.device)
        loss_g = self.loss_g.train_ops(self.g, self.d, self.adam_g, self.device, len(real))
        return loss_d, loss_g

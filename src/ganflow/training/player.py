"""A player: a network whose weights lie in one flat tensor, and Adam over it.

One tensor of weights and one of gradients make the optimiser, the average and the exchange between processes single
operations, whatever the number of layers; the network's own parameters are views into them.
"""

from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from ganflow.config import Train


def flatten(module: nn.Module) -> nn.Parameter:
    """Move the module's weights into one tensor (n,), which is returned; their gradients lie in its `grad`.

    Four-dimensional weights keep the channels-last layout, which convolutions prefer on CPU and GPU alike.
    """
    parameters = list(module.parameters())
    flat = nn.Parameter(torch.cat([_channels_last(weight.detach()).reshape(-1) for weight in parameters]))
    flat.grad = torch.zeros_like(flat)
    first = 0
    for weight in parameters:
        last = first + weight.numel()
        weight.data, weight.grad = (_view(tensor[first:last], weight) for tensor in (flat.data, flat.grad))
        first = last
    return flat


def float_buffers(module: nn.Module) -> list[Tensor]:
    """The statistics of batch norm, and the vectors of spectral norm."""
    return [buffer for buffer in module.buffers() if buffer.is_floating_point()]


Network = TypeVar("Network", bound=nn.Module)


class Player(Generic[Network]):
    """A network and its Adam."""

    network: Network

    def __init__(self, network: Network, learning_rate: float, settings: Train) -> None:
        device = next(network.parameters()).device
        self.network = network
        network.train()
        self.weights = flatten(network)
        self.first_rate = learning_rate
        captured = settings.cuda_graphs and device.type == "cuda"
        # A captured step reads its learning rate from the device.
        rate = torch.tensor(learning_rate, device=device) if captured else learning_rate
        self.optimizer = torch.optim.Adam(
            [self.weights],
            rate,
            (settings.beta1, settings.beta2),
            settings.adam_epsilon,
            fused=True,
            capturable=captured,
        )
        self.move = torch.zeros_like(self.weights) if settings.solver == "optimistic" else None
        """The last update, which the optimistic solver remembers."""

    @property
    def gradient(self) -> Tensor:
        """The flat gradient (n,), float32."""
        assert self.weights.grad is not None
        return self.weights.grad

    def differentiate(self, loss: Tensor) -> None:
        """Fill the gradient with that of a scalar loss."""
        self.gradient.zero_()
        loss.backward()  # type: ignore[no-untyped-call]

    def step(self) -> None:
        """One update of Adam."""
        self.optimizer.step()

    @torch.no_grad()
    def optimistic_step(self) -> None:
        """Twice Adam's update, less the one before (Daskalakis et al. 2018, algorithm 1)."""
        assert self.move is not None
        before = self.weights.clone()
        self.optimizer.step()
        now = self.weights - before
        self.weights.copy_(before + 2 * now - self.move)
        self.move.copy_(now)

    def set_rate(self, factor: float, beta2: float) -> None:
        """The learning rate as a multiple of the first one, and beta2."""
        group = self.optimizer.param_groups[0]
        group["betas"] = (group["betas"][0], beta2)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(self.first_rate * factor)
        else:
            group["lr"] = self.first_rate * factor

    def tensors(self) -> dict[str, Tensor]:
        """All that the player carries from step to step, by name."""
        flat = {f"network.{key}": value for key, value in self.network.state_dict().items()}
        flat |= {f"adam.{key}": value for key, value in self._moments().items()}
        return flat if self.move is None else flat | {"move": self.move}

    def load(self, flat: dict[str, Tensor]) -> None:
        """Take back what `tensors` gave; nothing is moved in memory."""
        self.network.load_state_dict(below(flat, "network"))
        moments, kept = below(flat, "adam"), self._moments()
        if kept:  # a captured step reads them where they lie
            for key, value in kept.items():
                value.copy_(moments[key])
        else:
            group = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": {0: moments} if moments else {}, "param_groups": group})
        if self.move is not None:
            self.move.copy_(flat["move"])

    def _moments(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.optimizer.state.get(self.weights, {})
        return state


def below(flat: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The entries under `name.`, without it."""
    prefix = name + "."
    return {key.removeprefix(prefix): value for key, value in flat.items() if key.startswith(prefix)}


def freeze(players: Iterable[Player[Any]], frozen: bool) -> None:
    """Switch the computation of the weights' gradients off or on; an idle network's are a third of the work."""
    for player in players:
        player.network.requires_grad_(not frozen)


def _channels_last(weight: Tensor) -> Tensor:
    return weight.permute(0, 2, 3, 1) if weight.dim() == 4 else weight


def _view(flat: Tensor, like: Tensor) -> Tensor:
    if like.dim() != 4:
        return flat.view(like.shape)
    outputs, inputs, height, width = like.shape
    return flat.view(outputs, height, width, inputs).permute(0, 3, 1, 2)

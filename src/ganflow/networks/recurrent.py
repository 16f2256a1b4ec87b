"""A pair that draws and reads an image row by row, each with a gated recurrent unit (GRU, Cho et al. 2014).

The GRU is written out: cuDNN's has no second derivative, which penalties on D's slope need.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganflow.networks.discriminator import Discriminator


class GRU(nn.Module):
    """torch.nn.GRUCell's formulas and weights, over a sequence; the inputs' share of the gates comes from outside.

    It starts able to remember `steps` steps: its update gates keep the state for times spread over 1 to `steps`
    (Tallec and Ollivier 2018), where zero biases would forget half of it each step.
    """

    def __init__(self, inputs: int, hidden: int, steps: int) -> None:
        super().__init__()
        self.input = nn.Linear(inputs, 3 * hidden)
        self.hidden = nn.Linear(hidden, 3 * hidden)
        with torch.no_grad():
            _, update, _ = self.input.bias.chunk(3)
            update.uniform_(1, steps - 1).log_()

    def forward(self, gates: Iterable[Tensor], h: Tensor) -> list[Tensor]:
        """Each step's `self.input(x)`, (N, 3 hidden), and the first state (N, hidden), to the state after each step."""
        weight, bias = self.hidden.weight, self.hidden.bias  # read once: under spectral norm reading computes them
        states = []
        for gate in gates:
            h = _step(gate, F.linear(h, weight, bias), h)
            states.append(h)
        return states


def _step(from_input: Tensor, from_state: Tensor, h: Tensor) -> Tensor:
    input_r, input_z, input_n = from_input.chunk(3, dim=1)
    state_r, state_z, state_n = from_state.chunk(3, dim=1)
    new = torch.tanh(input_n + torch.sigmoid(input_r + state_r) * state_n)
    return torch.lerp(new, h, torch.sigmoid(input_z + state_z))


class Generator(nn.Module):
    """A state of 8 width that starts from z and is told z at every row; each state gives one row through tanh."""

    per_sample = True
    stochastic = False

    def __init__(self, *, latent_dim: int, width: int, resolution: int, channels: int) -> None:
        super().__init__()
        self.start = nn.Linear(latent_dim, 8 * width)
        self.gru = GRU(latent_dim, 8 * width, resolution)
        self.row = nn.Linear(8 * width, channels * resolution)
        self.resolution, self.channels = resolution, channels

    def forward(self, z: Tensor) -> Tensor:
        """Latents (N, latent_dim) to images (N, C, R, R) in [-1, 1]."""
        gates = self.gru.input(z)
        states = self.gru([gates] * self.resolution, self.start(z).tanh())
        rows: Tensor = self.row(torch.stack(states, dim=1)).tanh()
        return rows.view(len(z), self.resolution, self.channels, self.resolution).transpose(1, 2)


class Trunk(nn.Module):
    """The last state, of 8 width, after the rows from top to bottom."""

    def __init__(self, *, width: int, resolution: int, channels: int) -> None:
        super().__init__()
        self.gru = GRU(channels * resolution, 8 * width, resolution)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, R, R) to features (N, 8 width)."""
        gates = self.gru.input(images.transpose(1, 2).flatten(2))  # of all rows at once
        first = gates.new_zeros(len(gates), gates.shape[2] // 3)
        last: Tensor = self.gru(gates.unbind(1), first)[-1]
        return last


def discriminator(*, width: int, resolution: int, channels: int, classes: int, norm: str) -> Discriminator:
    """The rows read by a GRU, one logit from its last state."""
    trunk = Trunk(width=width, resolution=resolution, channels=channels)
    return Discriminator(trunk, 8 * width, classes=classes, norm=norm)

"""Spectral normalisation (Miyato et al. 2018): every weight matrix divided by its largest singular value.

The singular vectors are found by power iteration outside of the forward pass, which changes no buffer: torch.func.grad
and CUDA graphs go through it, and two passes of one step see the same network.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

ITERATIONS = 100
"""At the start; later weights move so little that one a step follows them (Miyato et al. 2018, section 2.1)."""


class SpectralNorm(nn.Module):
    """W / σ(W), with σ = u·Wv; convolutions count as matrices (outputs, inputs · height · width)."""

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        self.register_buffer("u", F.normalize(torch.randn(len(matrix)).to(matrix), dim=0))
        self.register_buffer("v", matrix.new_zeros(matrix.shape[1]))
        for _ in range(ITERATIONS):
            self.iterate(weight)

    @torch.no_grad()
    def iterate(self, weight: Tensor) -> None:
        """One power iteration, in place: v = Wᵀu/|Wᵀu|, u = Wv/|Wv|."""
        matrix = weight.flatten(1)
        self.v.copy_(F.normalize(self.u @ matrix, dim=0))
        self.u.copy_(F.normalize(matrix @ self.v, dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight divided by its norm; u and v count as constants in the gradient, as in the paper."""
        # As a sum, since autocast would compute a matrix product in 16 bits.
        return weight / (weight * torch.outer(self.u, self.v).view(weight.shape)).sum()


def normalise(module: nn.Module) -> None:
    """Put spectral norm on every linear, convolutional and embedding layer of a module with its first weights."""
    for layer in list(module.modules()):
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.Embedding):
            parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight))


def power_iteration(module: nn.Module) -> None:
    """One power iteration of every spectral norm in the module, in place; nothing where there is none."""
    for weight in list(module.modules()):
        if isinstance(weight, parametrize.ParametrizationList) and isinstance(weight[0], SpectralNorm):
            weight[0].iterate(weight.original)

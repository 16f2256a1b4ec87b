"""One process, or many under torchrun: each has its slice of every batch, and all have the same weights.

Gradients are exchanged as one flat tensor an update, batch statistics and metrics with them.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ganflow.device import best_device
from ganflow.errors import ConfigError


@dataclass(frozen=True)
class World:
    """This process among its peers. With size 1 every method leaves things as they are."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0

    def require_slices(self, batch_size: int) -> None:
        """Raise ConfigError unless every process gets an equal slice of a batch."""
        if batch_size % self.size:
            raise ConfigError(
                f"train.batch_size is {batch_size}, which {self.size} processes cannot share; make it a multiple"
            )

    def average(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in one exchange."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1).to(torch.float32) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        means = torch.split(flat, [tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.copy_(mean.view(tensor.shape))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; no device waits for it."""
        if self.size == 1:
            return flag
        flags = torch.tensor([flag], dtype=torch.int32)
        dist.all_reduce(flags, dist.ReduceOp.MAX)
        return bool(flags.item())

    def gathered(self, value: Any) -> list[Any]:
        """Every process's value, by rank, in the leader; nothing in the others."""
        if self.size == 1:
            return [value]
        values = [None] * self.size if self.leads else None
        dist.gather_object(value, values)
        return values or []

    def told(self, value: Any) -> Any:
        """The leader's value, in every process; a small JSON-like one."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, 0)
        return values[0]


@contextmanager
def world() -> Iterator[World]:
    """The processes that torchrun started, or this one alone. On a CPU they talk by gloo, on GPUs by NCCL."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    device = best_device()
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # gloo beside NCCL: flags and small values go from CPU to CPU.
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()

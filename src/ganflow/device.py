"""Where tensors are computed, and how exactly."""

import ctypes
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""


def best_device() -> torch.device:
    """The CUDA device if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself, and does not emulate it."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8


@contextmanager
def exact() -> Iterator[None]:
    """Convolutions that repeat to the bit, in true float32: cuDNN's TensorFloat-32 keeps 10 bits of the mantissa."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def exact_algorithms() -> None:
    """Have torch choose algorithms that repeat to the bit, for the rest of the process, and true float32."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS repeats only with a fixed work space
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for the next step; by default large tensors are mapped anew, page by page.

    For the rest of the process; nothing happens where the C library is another.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        for parameter in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
            mallopt(parameter, 1 << 30)


def readings(device: torch.device) -> dict[str, float]:
    """The process's peak memory, and the GPU's memory, use and power where the device tells: GiB, per cent, watts."""
    values = {"host_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    if device.type != "cuda":
        return values
    values["gpu_memory_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
    # NVML's errors share no class but Exception: nvidia-ml-py is not installed, or the driver does not tell.
    with suppress(Exception):
        values["gpu_use_percent"] = torch.cuda.utilization(device)
    with suppress(Exception):
        values["gpu_watts"] = torch.cuda.power_draw(device) / 1e3
    return values

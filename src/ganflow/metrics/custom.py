"""A user's own extractor: a TorchScript file, or one of torch.export.

Neither may be a pickle, whose loading runs whatever its author wrote. A TorchScript archive is read by PyTorch's C++
unpickler, which makes tensors and its own types alone; a torch.export archive may hold pickles, and is refused when it
holds one that PyTorch would load without restriction.
"""

import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ganflow.errors import ArtifactError


class Custom(nn.Module):
    """uint8 images (N, C, H, W) to float32 features (N, d), by a program that does its own preprocessing."""

    NAME: ClassVar[str] = "custom"
    RESIZE: ClassVar[str] = "the extractor's own"
    MEMORY_FORMAT: ClassVar[torch.memory_format] = torch.contiguous_format

    def __init__(self, program: bytes) -> None:
        super().__init__()
        self.architecture: dict[str, int] = {}
        self.program = torch.frombuffer(bytearray(program), dtype=torch.uint8)
        """The file's bytes, which hold the weights too."""
        self.run = _loaded(program)

    def forward(self, images: Tensor) -> Tensor:
        """Features of uint8 images. Raises ArtifactError when the program gives anything but (N, d) floats."""
        features = self.run(images)
        if not isinstance(features, Tensor) or features.ndim != 2 or not features.is_floating_point():
            found = f"{features.dtype} {tuple(features.shape)}" if isinstance(features, Tensor) else type(features)
            raise ArtifactError(
                f"the extractor gives {found} for {len(images)} images; it must give one float tensor (N, d)"
            )
        return features.float()

    def train(self, mode: bool = True) -> "Custom":
        """Nothing: the program is in eval mode from the start, and an exported one knows no other."""
        return self


def load_custom(path: Path | None) -> Custom:
    """The extractor in a file. Raises ArtifactError when there is none, and for pickles and damaged files."""
    if path is None or not path.is_file():
        raise ArtifactError(
            f"there is no extractor at {path}; set evaluate.extractor_file to a TorchScript or pt2 file"
        )
    try:
        return Custom(path.read_bytes())
    except ArtifactError as error:
        raise ArtifactError(f"{path} {error}") from error


def _loaded(program: bytes) -> nn.Module:
    kind = _kind(program)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit is deprecated, and its files are still there
            if kind == "torchscript":
                module: nn.Module = torch.jit.load(io.BytesIO(program), map_location="cpu")  # type: ignore[no-untyped-call]
                return module.eval()
            return torch.export.load(io.BytesIO(program)).module()
    except Exception as error:  # at damaged bytes, the loaders raise nearly everything there is
        reason = " ".join(str(error).split())[:120]
        raise ArtifactError(f"is a damaged {kind} file ({reason}); export the extractor again") from error


def _kind(program: bytes) -> str:
    """`torchscript` or `torch.export`. Raises ArtifactError for all else, and for what would run a pickle."""
    try:
        with zipfile.ZipFile(io.BytesIO(program)) as archive:
            inside = {name.partition("/")[2]: name for name in archive.namelist()}
            if "constants.pkl" in inside and any(name.startswith("code/") for name in inside):
                return "torchscript"
            if "archive_format" in inside and any(name.startswith("models/") for name in inside):
                _refuse_pickles(archive, inside)
                return "torch.export"
    except zipfile.BadZipFile as error:
        raise ArtifactError(
            "is a pickle, or no extractor at all; give a TorchScript file or one of torch.export"
        ) from error
    raise ArtifactError("is a pickle of weights without a program; give a TorchScript file or one of torch.export")


def _refuse_pickles(archive: zipfile.ZipFile, inside: dict[str, str]) -> None:
    for short, name in inside.items():
        data = archive.read(name)
        if short.endswith(".json") and _says_pickle(json.loads(data)):
            raise ArtifactError(f"holds pickled weights ({short}); export the extractor with plain tensors")
        if short.startswith("data/sample_inputs/") or "custom_obj" in short:
            _require_plain(short, data)


def _says_pickle(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("use_pickle") is True or any(map(_says_pickle, value.values()))
    return isinstance(value, list) and any(map(_says_pickle, value))


def _require_plain(name: str, data: bytes) -> None:
    """PyTorch reads these with `weights_only` first, and without it where that fails: so it must not fail."""
    try:
        torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        raise ArtifactError(f"holds a pickle ({name}); export the extractor with plain tensors") from error

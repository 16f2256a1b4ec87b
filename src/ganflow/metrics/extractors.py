"""What turns images into features: one interface for every network, and the file that keeps it.

images -> features (`extract`) -> statistics (`moments.moments`) -> distance (`frechet.frechet_distance`).
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor
from torch.nn import functional as F

from ganflow.artifacts import atomic, file_hash
from ganflow.config import Evaluate
from ganflow.device import best_device, exact
from ganflow.errors import ArtifactError, DataError
from ganflow.images import AnyImages
from ganflow.metrics.classifier import Classifier, fit_classifier
from ganflow.metrics.custom import Custom, load_custom
from ganflow.metrics.inception import Inception, load_inception

# Convolution libraries choose their algorithm by batch size; every forward pass therefore has this many images.
CHUNK = 32
HEADER = "extractor"
Network: TypeAlias = Classifier | Inception | Custom
NETWORKS: dict[str, type[Classifier] | type[Inception]] = {"classifier": Classifier, "inception": Inception}


@dataclass(frozen=True)
class Extractor:
    """A network that maps uint8 images (n, C, H, W) to float32 features (n, d), and the hash of its file."""

    network: Network
    sha256: str
    """Of the safetensors file that `save` writes."""

    @property
    def name(self) -> str:
        """`classifier`, `inception` or `custom`; part of the score's name."""
        return str(self.network.NAME)

    @property
    def resize(self) -> str:
        """How images are brought to the network's size; part of the protocol."""
        return str(self.network.RESIZE)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Features of uint8 images (n, C, H, W): float32 (n, d), on the CPU, in passes of CHUNK images.

        Raises TypeError for another dtype, ArtifactError for images of a shape that the classifier does not know.
        """
        if images.dtype != torch.uint8:
            raise TypeError(f"an extractor takes uint8 images, not {images.dtype}")
        return torch.cat([self._features(chunk) for chunk in _chunks([images])])

    @torch.inference_mode()
    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Class probabilities, float32 (N, classes), of features (N, d); None where the network knows no classes."""
        if not isinstance(self.network, Classifier):
            return None
        logits = self.network.head(torch.from_numpy(features).to(best_device()))
        return np.asarray(logits.softmax(1).cpu().numpy(), np.float32)

    def _features(self, chunk: Tensor) -> Tensor:
        whole = F.pad(chunk, (0, 0, 0, 0, 0, 0, 0, CHUNK - len(chunk))).to(best_device())
        with exact():
            features: Tensor = self.network(whole)
        return features[: len(chunk)].cpu()


def fit_or_load(
    settings: Evaluate,
    images: AnyImages,
    labels: NDArray[np.int64] | None,
    classes: int,
    advance: Callable[[int, int], None],
) -> Extractor:
    """The extractor that the settings name: Inception, a user's file, or a classifier fitted to the images.

    `images` (N, C, R, R), `labels` (N,), `classes` and `advance` are as in `fit_classifier`; the others need none.
    Raises DataError when the classifier has no labels to learn, ArtifactError when the others' file is not here.
    """
    if settings.extractor != "classifier":
        return load_named(settings)
    if labels is None:
        raise DataError("the images have no labels for a classifier to learn; set evaluate.extractor=inception")
    epochs, seed = settings.classifier_epochs, settings.seed
    return _extractor(fit_classifier(images, labels, classes, epochs, seed, advance))


def load_named(settings: Evaluate) -> Extractor:
    """Inception or the user's file, as the settings say. Raises ArtifactError when it is not there, or refused."""
    if settings.extractor == "custom":
        return _extractor(load_custom(Path(settings.extractor_file) if settings.extractor_file else None))
    weights = settings.inception_weights
    return _extractor(load_inception(Path(weights) if weights else None))


def extract(
    extractor: Extractor, batches: Iterable[Tensor], advance: Callable[[int], None] = lambda done: None
) -> NDArray[np.float32]:
    """Features, float32 (N, d), of all the uint8 images (n, C, H, W) of the batches, in their order.

    The bits do not depend on how the images are divided into batches. `advance` is called with the images done.
    Raises DataError when there are no images.
    """
    features: list[NDArray[np.float32]] = []
    done = 0
    for chunk in _chunks(batches):
        features.append(extractor(chunk).numpy())
        advance(done := done + len(chunk))
    if not features:
        raise DataError("there are no images to measure; give at least one batch")
    return np.concatenate(features)


def save(extractor: Extractor, path: Path) -> None:
    """Write the extractor as one safetensors file, whole or not at all."""
    with atomic(path) as partial:
        partial.write_bytes(_serialised(extractor.network))


def load(path: Path) -> Extractor:
    """Read what `save` wrote; no pickle, no code. Raises ArtifactError when the file is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            card = json.loads((file.metadata() or {})[HEADER])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        network = _rebuilt(card, tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError, ArtifactError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ArtifactError(f"{path} is not a whole extractor ({reason}); run `ganflow reference` again") from error
    return Extractor(_placed(network), file_hash(path))


def _rebuilt(card: dict[str, Any], tensors: dict[str, Tensor]) -> Network:
    if card["name"] == Custom.NAME:
        return Custom(tensors["program"].numpy().tobytes())
    with torch.device("meta"):  # no time and no random numbers for weights that are replaced
        network = NETWORKS[card["name"]](**card["architecture"])
    network.load_state_dict(tensors, assign=True)
    return network


def _extractor(network: Network) -> Extractor:
    return Extractor(_placed(network), hashlib.sha256(_serialised(network)).hexdigest())


def _placed(network: Network) -> Network:
    network.eval().to(memory_format=network.MEMORY_FORMAT)
    return network.to(best_device())


def _serialised(network: Network) -> bytes:
    """The safetensors file. One header entry alone: safetensors writes several in no fixed order."""
    card = json.dumps({"name": network.NAME, "architecture": network.architecture}, sort_keys=True)
    state = {"program": network.program} if isinstance(network, Custom) else network.state_dict()
    tensors = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
    return to_bytes(tensors, metadata={HEADER: card})


def _chunks(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """The same images, CHUNK at a time; the last chunk, and the last before images of another size, may be shorter."""
    rest: list[Tensor] = []
    for batch in batches:
        if rest and rest[0].shape[1:] != batch.shape[1:]:
            yield from (part for part in rest if len(part))
            rest = []
        joined = torch.cat([*rest, batch])
        whole = len(joined) // CHUNK * CHUNK
        for first in range(0, whole, CHUNK):
            yield joined[first : first + CHUNK]
        rest = [joined[whole:]]
    if rest and len(rest[0]):
        yield rest[0]

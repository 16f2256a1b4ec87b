"""The reference (real images, measured once a data version) and the evaluation (generated ones, against it)."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganflow import cache, metrics, pictures, randomness
from ganflow.artifacts import (
    Evaluation,
    Model,
    Prepared,
    Reference,
    check_hash,
    file_hash,
    fingerprint,
    new_folder,
    write_text,
)
from ganflow.config import Evaluate
from ganflow.device import best_device
from ganflow.errors import ConfigError
from ganflow.history import read_history
from ganflow.images import AnyImages, Images, Labels, grid, open_prepared, write_png
from ganflow.lineage import identity
from ganflow.metrics import Extractor, Measured, RealStatistics
from ganflow.metrics.manifold import Float32
from ganflow.parallel import World
from ganflow.progress import progress
from ganflow.report import write_report
from ganflow.sampling import CHUNK, load_generator, sample, share

GRID = 64


def make_reference(prepared: Prepared, out: Path, settings: Evaluate) -> dict[str, Any]:
    """Fetch or fit the extractor and measure the held-out real images with it; returns the card.

    What was made before of the same data, settings and code is taken from the cache. Raises ArtifactError when
    `prepared` is unfinished, DataError when the extractor cannot be had from this data.
    """
    images, labels, data = open_prepared(prepared)
    key = reference_key(data, settings)
    with new_folder(Reference, out) as folder:
        if not cache.restore(key, folder.path):
            _fill_reference(folder, images, labels, data, settings)
            cache.keep(key, folder.path)
        return folder.read_card()


def evaluate(
    model: Model, reference: Reference, out: Path, settings: Evaluate, world: World | None = None
) -> dict[str, Any] | None:
    """Generate images, measure them, and score them against the reference; returns what scores.json records.

    Of many processes each makes and looks at its share of the images; the leader alone scores and writes, and the
    others return None. The bits are those of one process.

    The score is the Fréchet distance (Heusel et al. 2017) under a name that carries the protocol; `<name>_se` is its
    standard error from the generated sample; the other metrics stand beside it. Raises ArtifactError when a folder is
    unfinished or damaged, ConfigError for fewer chunks of images than processes.
    """
    world = world or World()
    card, known = model.read_card(), reference.read_card()
    extractor, real, bank_images = load_reference(reference)
    generator, latent_dim = load_generator(model)
    generator.to(best_device())
    features = _features(extractor, generator, latent_dim, settings, world)
    if features is None:
        return None
    found = metrics.measure(extractor, features, real, settings.seed)
    scores = score_card(extractor, found, known["protocol"], settings, known["warnings"])
    scores |= {"generator_sha256": card["generator_sha256"], "passport": identity(card, scores)}
    with new_folder(Evaluation, out) as folder:
        np.save(folder.influence, found.influence)
        _draw(folder, generator, card["architecture"], settings.seed, bank_images, found)
        write_text(folder.report, write_report(scores, card, read_history(model.history), folder))
        return folder.write_card(scores)


def _features(
    extractor: Extractor, generator: nn.Module, latent_dim: int, settings: Evaluate, world: World
) -> Float32 | None:
    """Of all the generated images in their order, in the leader."""
    count = settings.count
    if count <= (world.size - 1) * CHUNK:
        raise ConfigError(
            f"evaluate.count is {count}, fewer than a chunk of {CHUNK} images for each of {world.size} processes; "
            "start fewer"
        )
    with progress("evaluate") as advance:
        images = sample(generator, latent_dim, settings.seed, count, world)
        own = metrics.extract(extractor, images, lambda done: advance(min(done * world.size, count), count))
    parts = world.gathered(own)
    if not world.leads:
        return None
    whole = np.empty((count, own.shape[1]), np.float32)
    for rank, part in enumerate(parts):
        rows = [np.arange(first, min(first + CHUNK, count)) for first in share(count, World(rank, world.size))]
        whole[np.concatenate(rows)] = part
    return whole


def load_reference(reference: Reference) -> tuple[Extractor, RealStatistics, Images]:
    """The extractor, the real statistics, and small pictures (B, C, r, r) of the training images in the bank.

    Raises ArtifactError when the folder is unfinished, or its files are not those that the card names.
    """
    card = reference.read_card()
    check_hash(reference.stats, card["stats_sha256"], Reference.MAKER)
    check_hash(reference.extractor, card["protocol"]["extractor_sha256"], Reference.MAKER)
    with np.load(reference.stats) as stats:
        real = RealStatistics(*(stats[name] for name in RealStatistics._fields))
        return metrics.load(reference.extractor), real, stats["bank_images"]


def score_card(
    extractor: Extractor, found: Measured, protocol: dict[str, Any], settings: Evaluate, notes: list[str]
) -> dict[str, Any]:
    """What scores.json records of the measured numbers: their names, the protocol, and what to beware of.

    The warnings are also said on standard error.
    """
    count = len(found.influence)
    whole = protocol | {"generated_count": count, "seed": settings.seed, "quantisation": "uint8, rounded"}
    warnings = [*notes, *found.warnings]
    for warning in warnings:
        print(f"ganflow: warning: {warning}", file=sys.stderr)
    name = metrics.score_name(extractor.name, count)
    return {
        "score": name,
        **found.scores,
        "protocol": whole,
        "protocol_sha256": fingerprint(whole),
        "warnings": warnings,
    }


def reference_key(data: dict[str, Any], settings: Evaluate) -> str:
    """The cache's key: all that the reference depends on. Equal keys give equal bytes."""
    files = (settings.inception_weights, settings.extractor_file)
    return fingerprint(
        {
            "data": {key: data[key] for key in ("images_md5", "labels_md5", "train", "held_out", "classes")},
            "lossy": data.get("lossy_held_out", 0),
            "settings": settings.model_dump(mode="json", exclude={"count", "inception_weights", "extractor_file"}),
            "files": [file_hash(Path(name)) if name and Path(name).is_file() else name for name in files],
            **machine_and_code(),
        }
    )


def machine_and_code() -> dict[str, Any]:
    """What else the bits depend on: the code that measures, PyTorch, and the kind of processor."""
    here = Path(__file__).parent
    others = ("device", "evaluate", "folders", "pictures", "randomness")
    sources = [*sorted((here / "metrics").glob("*.py")), *(here / f"{name}.py" for name in others)]
    return {
        "code": [file_hash(path) for path in sources],
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else torch.backends.cpu.get_cpu_capability(),
    }


def jpeg_warning(lossy: int, count: int) -> list[str]:
    """Named where real images are lossy: the distance then measures the compression too."""
    if not lossy:
        return []
    return [
        f"lossy (JPEG) reference images: {lossy:,} of {count:,} real images come from JPEG or lossy WebP files; a "
        "generator is then scored on their artefacts too (Parmar et al. 2022); prefer a lossless original"
    ]


def save_statistics(folder: Reference, real: RealStatistics, bank_images: Images) -> None:
    """Write stats.npz; equal statistics give equal bytes."""
    np.savez(folder.stats, bank_images=bank_images, **real._asdict())


def _fill_reference(
    folder: Reference, images: AnyImages, labels: Labels | None, data: dict[str, Any], settings: Evaluate
) -> None:
    train = data["train"]
    with progress("fit the extractor") as advance:
        known = None if labels is None else labels[:train]
        extractor = metrics.fit_or_load(settings, images[:train], known, len(data["classes"] or ()), advance)
    metrics.save(extractor, folder.extractor)
    rows = _drawn(train, settings)
    with progress("measure real images") as advance:
        total = data["held_out"] + len(rows)
        features = metrics.extract(extractor, _batches(images[train:]), lambda done: advance(done, total))
        bank = (
            metrics.extract(extractor, _batches(images, rows), lambda done: advance(len(features) + done, total))
            if len(rows)
            else None
        )
    shown = pictures.thumbnails(images[rows if len(rows) else np.arange(train, len(images))])
    save_statistics(folder, metrics.real_statistics(features, bank), shown)
    folder.write_card(
        {
            "stats_sha256": file_hash(folder.stats),
            "protocol": _real_protocol(extractor, data, len(rows)),
            "warnings": jpeg_warning(data.get("lossy_held_out", 0), data["held_out"]),
        }
    )


def _real_protocol(extractor: Extractor, data: dict[str, Any], train_count: int) -> dict[str, Any]:
    """The half of the protocol that the reference fixes."""
    return {
        "extractor": extractor.name,
        "extractor_sha256": extractor.sha256,
        "resize": extractor.resize,
        "real_split": "held_out",
        "real_count": data["held_out"],
        "real_md5": data["images_md5"],
        "train_count": train_count,
        "dtype": "float32 features, float64 moments",
    }


def _draw(
    folder: Evaluation, generator: nn.Module, architecture: dict[str, Any], seed: int, bank: Images, found: Measured
) -> None:
    """Write the pictures."""
    latent_dim, classes = architecture["latent_dim"], architecture.get("classes")
    samples = np.concatenate([chunk.numpy() for chunk in sample(generator, latent_dim, seed, GRID)])
    shown = slice(0, pictures.NEIGHBOURS)
    near = bank[found.neighbours.rows[shown]]
    scale = 2 if samples.shape[2] < 64 else 1
    write_png(folder.samples, grid(samples), scale)
    write_png(folder.interpolation, pictures.interpolation(generator, latent_dim, seed, classes), scale)
    write_png(folder.neighbours, pictures.beside(samples[: len(near)], near), scale)
    if classes:
        write_png(folder.classes, pictures.class_grid(generator, latent_dim, seed, classes), scale)


def _drawn(train: int, settings: Evaluate) -> Labels:
    """Ascending rows of the training images in the bank."""
    drawn = randomness.permutation(settings.seed, randomness.Stream.EVALUATION, train, epoch=3)
    return np.sort(drawn[: settings.train_count].numpy())


def _batches(images: AnyImages, rows: Labels | None = None, size: int = 512) -> Iterator[Tensor]:
    for first in range(0, len(images) if rows is None else len(rows), size):
        part = slice(first, first + size)
        yield torch.from_numpy(np.array(images[part] if rows is None else images[rows[part]]))

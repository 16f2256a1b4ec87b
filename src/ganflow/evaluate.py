"""The reference (real images, measured once a data version) and the evaluation (generated ones, against it)."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganflow import metrics
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
from ganflow.history import read_history
from ganflow.images import Images, grid, open_prepared, write_png
from ganflow.progress import progress
from ganflow.report import write_report
from ganflow.sampling import load_generator, sample

GRID = 64


def make_reference(prepared: Prepared, out: Path, settings: Evaluate) -> dict[str, Any]:
    """Fetch or fit the extractor and measure the held-out real images with it; returns the card.

    Raises ArtifactError when `prepared` is unfinished, DataError when the extractor cannot be had from this data.
    """
    images, labels, data = open_prepared(prepared)
    train = data["train"]
    with new_folder(Reference, out) as folder:
        with progress("fit the extractor") as advance:
            extractor = metrics.fit_or_load(
                settings,
                images[:train],
                None if labels is None else labels[:train],
                len(data["classes"] or ()),
                advance,
            )
        metrics.save(extractor, folder.extractor)
        with progress("measure real images") as advance:
            features = metrics.extract(
                extractor, _batches(images[train:]), lambda done: advance(done, data["held_out"])
            )
        mu, sigma = metrics.moments(features)
        np.savez(folder.stats, mu=mu, sigma=sigma, features=features)
        return folder.write_card({"stats_sha256": file_hash(folder.stats), "protocol": _real_protocol(extractor, data)})


def evaluate(model: Model, reference: Reference, out: Path, settings: Evaluate) -> dict[str, Any]:
    """Generate images, measure them, and score them against the reference; returns what scores.json records.

    The score is the Fréchet distance (Heusel et al. 2017) under a name that carries the protocol; `<name>_se` is its
    standard error from the generated sample. Raises ArtifactError when a folder is unfinished or damaged.
    """
    card, real = model.read_card(), reference.read_card()
    check_hash(reference.stats, real["stats_sha256"], Reference.MAKER)
    check_hash(reference.extractor, real["protocol"]["extractor_sha256"], Reference.MAKER)
    extractor = metrics.load(reference.extractor)
    generator, latent_dim = load_generator(model)
    generator.to(best_device())
    with progress("evaluate") as advance:
        images = sample(generator, latent_dim, settings.seed, settings.count)
        features = metrics.extract(extractor, images, lambda done: advance(done, settings.count))
    with np.load(reference.stats) as stats:
        real_mu, real_sigma = stats["mu"], stats["sigma"]
    mu, sigma = metrics.moments(features)
    influence = metrics.influence(features, mu, sigma, real_mu, real_sigma)
    protocol = real["protocol"] | {
        "generated_count": settings.count,
        "seed": settings.seed,
        "quantisation": "uint8, rounded",
    }
    name = metrics.score_name(extractor.name, settings.count)
    scores = {
        "score": name,
        name: metrics.frechet_distance(mu, sigma, real_mu, real_sigma),
        f"{name}_se": metrics.standard_error(influence),
        "generator_sha256": card["generator_sha256"],
        "protocol": protocol,
        "protocol_sha256": fingerprint(protocol),
    }
    with new_folder(Evaluation, out) as folder:
        np.save(folder.influence, influence)
        picture = np.concatenate([chunk.numpy() for chunk in sample(generator, latent_dim, settings.seed, GRID)])
        write_png(folder.samples, grid(picture), scale=2 if picture.shape[2] < 64 else 1)
        write_text(folder.report, write_report(scores, card, read_history(model.history), folder.samples))
        return folder.write_card(scores)


def _real_protocol(extractor: metrics.Extractor, data: dict[str, Any]) -> dict[str, Any]:
    """The half of the protocol that the reference fixes."""
    return {
        "extractor": extractor.name,
        "extractor_sha256": extractor.sha256,
        "resize": extractor.resize,
        "real_split": "held_out",
        "real_count": data["held_out"],
        "real_md5": data["images_md5"],
        "dtype": "float32 features, float64 moments",
    }


def _batches(images: Images, size: int = 512) -> Iterator[Tensor]:
    for first in range(0, len(images), size):
        yield torch.from_numpy(np.array(images[first : first + size]))

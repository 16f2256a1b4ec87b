"""Two plain folders of images, real and generated, measured against each other: for any generator, not only ours."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganflow import cache, metrics
from ganflow.artifacts import Reference, file_hash, fingerprint, new_folder
from ganflow.config import Evaluate
from ganflow.errors import ConfigError
from ganflow.evaluate import jpeg_warning, load_reference, machine_and_code, save_statistics, score_card
from ganflow.folders import File, batches, content_hash, list_images
from ganflow.metrics import Extractor
from ganflow.progress import progress


def compare_folders(real: Path, generated: Path, settings: Evaluate) -> dict[str, Any]:
    """Score the images in `generated` against those in `real`: scores as in scores.json.

    The names and the order of files mean nothing. The real folder's statistics are kept in the cache, by the hash of
    its content. Raises ConfigError for the classifier, which needs a prepared set; DataError for a folder without
    images and for a broken image; ArtifactError when the extractor is not here.
    """
    if settings.extractor == "classifier":
        raise ConfigError(
            "evaluate.extractor is classifier, and two folders have no labels for it; set it to inception or custom"
        )
    originals, files = list_images(real), list_images(generated)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Reference(Path(temporary) / "reference")
        _make_reference(originals, folder.path, settings)
        extractor, statistics, _ = load_reference(folder)
        known = folder.read_card()
    features = _features(extractor, files, "measure generated images")
    found = metrics.measure(extractor, features, statistics, settings.seed)
    return score_card(extractor, found, known["protocol"], settings, known["warnings"]) | {
        "generated_sha256": content_hash(files)
    }


def _make_reference(files: list[File], out: Path, settings: Evaluate) -> None:
    extractor = metrics.load_named(settings)
    protocol = {
        "extractor": extractor.name,
        "extractor_sha256": extractor.sha256,
        "resize": extractor.resize,
        "real_split": "folder",
        "real_count": len(files),
        "real_sha256": content_hash(files),
        "dtype": "float32 features, float64 moments",
    }
    key = fingerprint(protocol | machine_and_code())
    with new_folder(Reference, out) as folder:
        if not cache.restore(key, folder.path):
            metrics.save(extractor, folder.extractor)
            real = metrics.real_statistics(_features(extractor, files, "measure real images"))
            save_statistics(folder, real, np.zeros((0, 3, 1, 1), np.uint8))
            notes = jpeg_warning(sum(file.lossy for file in files), len(files))
            folder.write_card({"stats_sha256": file_hash(folder.stats), "protocol": protocol, "warnings": notes})
            cache.keep(key, folder.path)


def _features(extractor: Extractor, files: list[File], label: str) -> NDArray[np.float32]:
    with progress(label) as advance:
        return metrics.extract(extractor, batches(files), lambda done: advance(done, len(files)))

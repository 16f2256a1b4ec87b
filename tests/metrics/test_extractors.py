"""The extractors' interface and file, with a fitted domain classifier."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ganflow.artifacts import file_hash
from ganflow.config import Evaluate
from ganflow.errors import ArtifactError, DataError
from ganflow.metrics import Extractor, extract, fit_or_load, load, save
from ganflow.metrics.classifier import Classifier, fit_classifier


def silent(done: int, total: int) -> None:
    pass


def stripes(n: int, seed: int, side: int = 28, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright row (class 0) or a bright column (class 1)."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 100, (n, channels, side, side), dtype=np.uint8)
    labels = random.integers(0, 2, n)
    for image, label, place in zip(images, labels, random.integers(0, side, n), strict=True):
        image[:, :, place] = 255 if label else image[:, :, place]
        image[:, place] = image[:, place] if label else 255
    return images, labels


@pytest.fixture(scope="module")
def extractor() -> Extractor:
    return fit_or_load(Evaluate(classifier_epochs=2), *stripes(600, seed=1), 2, silent)


def test_the_classifier_learns(extractor: Extractor) -> None:
    images, labels = stripes(200, seed=2)
    features = extractor(torch.from_numpy(images))
    assert features.dtype == torch.float32
    assert features.shape == (200, 128)
    with torch.inference_mode():
        logits = extractor.network.head(features.to(extractor.network.head.weight.device))
    assert (logits.argmax(1).cpu().numpy() == labels).mean() > 0.9


def test_fitting_repeats_to_the_bit_and_leaves_torch_alone(extractor: Extractor) -> None:
    torch.rand(1)  # away from where the fixture's fit would have left it
    state = torch.get_rng_state()
    again = fit_or_load(Evaluate(classifier_epochs=2), *stripes(600, seed=1), 2, silent)
    assert again.sha256 == extractor.sha256
    assert torch.equal(torch.get_rng_state(), state)


def test_fitting_depends_on_the_seed() -> None:
    images, labels = stripes(64, seed=1)
    one, other = (fit_classifier(images, labels, 2, 1, seed, silent).head.weight for seed in (0, 1))
    assert not torch.equal(one, other)


def test_fitting_tells_its_progress() -> None:
    calls: list[tuple[int, int]] = []
    fit_classifier(*stripes(129, seed=1), 2, 2, 0, lambda done, total: calls.append((done, total)))
    assert calls == [(65, 258), (129, 258), (194, 258), (258, 258)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [28, 32, 64, 128, 256])
def test_every_size(side: int, channels: int) -> None:
    network = fit_classifier(*stripes(4, 0, side, channels), 2, 1, 0, silent)
    images = torch.zeros(2, channels, side, side, dtype=torch.uint8, device=network.head.weight.device)
    assert network(images).shape == (2, 128)
    assert not network.training


def test_features_do_not_depend_on_batches(extractor: Extractor) -> None:
    images = torch.from_numpy(stripes(150, seed=3)[0])
    whole = extract(extractor, [images])
    done: list[int] = []
    for size in (1, 7, 32, 100):
        assert np.array_equal(extract(extractor, images.split(size), done.append), whole)
    assert whole.dtype == np.float32
    assert done[-1] == 150
    # The padding of a short chunk is no neighbour of its images.
    assert np.array_equal(extract(extractor, [images[:130]]), whole[:130])


def test_saved_and_loaded(extractor: Extractor, tmp_path: Path) -> None:
    path = tmp_path / "extractor.safetensors"
    save(extractor, path)
    state = torch.get_rng_state()
    loaded = load(path)
    images = torch.from_numpy(stripes(40, seed=3)[0])
    assert torch.equal(loaded(images), extractor(images))
    assert loaded.sha256 == extractor.sha256 == file_hash(path)
    assert (loaded.name, loaded.resize) == (extractor.name, extractor.resize) == ("classifier", "none")
    assert torch.equal(torch.get_rng_state(), state)


def test_no_labels() -> None:
    with pytest.raises(DataError, match=r"no labels.*set evaluate\.extractor=inception"):
        fit_or_load(Evaluate(), stripes(4, 0)[0], None, 0, silent)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 1], "4 images have 3 labels"),
        ([0, 1, 2, 0], "run from 0 to 2 for 2 classes"),
        ([0, -1, 1, 0], "run from -1 to 1 for 2 classes"),
    ],
)
def test_bad_labels(labels: list[int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit_classifier(stripes(4, 0)[0], np.array(labels), 2, 1, 0, silent)


def test_one_image_teaches_nothing() -> None:
    with pytest.raises(DataError, match="2 images or more, and there are 1"):
        fit_classifier(*stripes(1, 0), 2, 1, 0, silent)


def test_images_of_another_shape(extractor: Extractor) -> None:
    with pytest.raises(ArtifactError, match=r"shape \(1, 28, 28\), and these are \(3, 32, 32\)"):
        extract(extractor, [torch.zeros(2, 3, 32, 32, dtype=torch.uint8)])


def test_images_that_are_not_uint8(extractor: Extractor) -> None:
    with pytest.raises(TypeError, match=r"uint8 images, not torch\.float32"):
        extract(extractor, [torch.zeros(2, 1, 28, 28)])


@pytest.mark.parametrize("batches", [[], [torch.zeros(0, 1, 28, 28, dtype=torch.uint8)]])
def test_nothing_to_measure(extractor: Extractor, batches: list[torch.Tensor]) -> None:
    with pytest.raises(DataError, match="no images to measure"):
        extract(extractor, batches)


@pytest.mark.parametrize(
    "header",
    [
        None,
        {"other": "x"},
        {"extractor": "{"},
        {"extractor": '{"name": "clip", "architecture": {}}'},
        {"extractor": '{"name": "classifier", "architecture": {"resolution": 28}}'},
        {"extractor": '{"name": "classifier", "architecture": {"resolution": 28, "channels": 1, "classes": 2}}'},
    ],
)
def test_a_file_that_is_no_extractor(header: dict[str, str] | None, tmp_path: Path) -> None:
    path = tmp_path / "extractor.safetensors"
    save_file({"weight": torch.zeros(1)}, path, metadata=header)
    with pytest.raises(ArtifactError, match="run `ganflow reference` again"):
        load(path)


def test_a_file_cut_short_or_missing(extractor: Extractor, tmp_path: Path) -> None:
    path = tmp_path / "extractor.safetensors"
    with pytest.raises(ArtifactError, match="not a whole extractor"):
        load(path)
    save(extractor, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ArtifactError, match="not a whole extractor"):
        load(path)


def test_parameters_are_few() -> None:
    assert sum(p.numel() for p in Classifier(resolution=28, channels=1, classes=10).parameters()) < 500_000

"""The plan, the card, the bytes and the memory."""

import hashlib
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from raw_sets import encoded, mnist, photos, pixels, run, tarred, traced, write, zipped

from ganflow.config import Data
from ganflow.data import prepare
from ganflow.data.raw import Sizes
from ganflow.data.writer import Rows
from ganflow.errors import DataError


def test_same_input_and_settings_give_the_same_bytes(tmp_path):
    files = photos(20, "a/") | photos(20, "b/") | {"a/x.png": b"broken", "b/y.pdf": b""}
    results = []
    for place in ("one", "two"):
        raw = write(tmp_path / place / "set", dict(reversed(files.items())) if place == "two" else files)
        run(raw, max_rejected_fraction=0.1)
        results.append({file.name: file.read_bytes() for file in (raw.parent / "out").iterdir()})
    assert results[0] == results[1]
    files = ["card.html", "dataset.json", "findings.json", "images.npy", "labels.npy", "montage.png"]
    assert sorted(results[0]) == files
    assert str(tmp_path).encode() not in results[0]["dataset.json"]


def test_raw_md5_is_what_dvc_records(tmp_path):
    write(tmp_path / "set", photos(5, "a/") | photos(5, "b/") | {".hidden": b"x", "ä.txt": b""})
    for command in (["init", "--no-scm"], ["add", "set"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=tmp_path, check=True, capture_output=True)
    assert run(tmp_path / "set")[0]["raw_md5"] == yaml.safe_load((tmp_path / "set.dvc").read_text())["outs"][0]["md5"]


def test_the_card_describes_the_files(tmp_path):
    card, images, labels = run(write(tmp_path / "fashion", mnist()), held_out="own", resolution=32)
    assert (card["format"], card["name"], card["resolution"], card["channels"]) == (2, "fashion", 32, 1)
    assert card["parameters"] == Data(resolution=32).model_dump()
    md5s = subprocess.run(["md5sum", "images.npy", "labels.npy"], cwd=tmp_path / "out", capture_output=True, text=True)
    assert [card["images_md5"], card["labels_md5"]] == md5s.stdout.split()[::2]
    assert (len(images), len(labels)) == (card["train"] + card["held_out"],) * 2


def test_classes_filter_and_number(tmp_path):
    write(tmp_path / "raw", mnist())
    card, images, labels = run(tmp_path / "raw", held_out="own", classes=["2", "0"])
    wanted = np.flatnonzero(np.arange(20) % 3 != 1)
    np.testing.assert_array_equal(images[:13, 0], pixels(20, 28, 28, seed=20)[wanted])
    np.testing.assert_array_equal(labels[:13], np.where(wanted % 3 == 2, 0, 1))
    assert (card["classes"], card["class_counts"]["train"]) == (["2", "0"], {"2": 6, "0": 7})


def test_limit_is_per_split_in_order(tmp_path):
    card, images, _ = run(write(tmp_path / "raw", mnist()), held_out="own", limit=3)
    assert (card["train"], card["held_out"]) == (3, 3)
    np.testing.assert_array_equal(images[:3, 0], pixels(20, 28, 28, seed=20)[:3])
    np.testing.assert_array_equal(images[3:, 0], pixels(10, 28, 28, seed=10)[:3])


def test_a_fraction_is_drawn_by_the_seed_from_all_images(tmp_path):
    np.save(tmp_path / "a.npy", pixels(100, 28, 28))
    place = {image.tobytes(): n for n, image in enumerate(pixels(100, 28, 28))}

    def split(**settings):
        card, images, _ = run(tmp_path / "a.npy", held_out=0.3, **settings)
        order = [place[image.tobytes()] for image in images]
        return order[: card["train"]], order[card["train"] :]

    (train, held_out), (_, other) = split(), split(seed=1)
    assert (len(train), len(held_out)) == (70, 30)
    assert sorted(train + held_out) == list(range(100))
    assert train == sorted(train)
    assert held_out == sorted(held_out) != other
    assert split() == (train, held_out)
    assert [part[:4] for part in (train, held_out)] == list(split(limit=4))


def test_advance_reaches_the_total(tmp_path):
    calls = []
    prepare(write(tmp_path / "raw", photos()), tmp_path / "out", Data(held_out=0.2), lambda *call: calls.append(call))
    assert calls == sorted(calls)
    assert calls[-1] == (10, 10)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 3, 4, 0, 1, 2]])
@pytest.mark.parametrize("keep", [[1, 1, 1, 1, 1, 1], [0, 1, 1, 0, 0, 1], [1, 1, 0, 0, 0, 0]])
@pytest.mark.parametrize("file_bytes", [1 << 20, 2 * 48])
def test_the_writer_makes_what_numpy_saves(tmp_path, order, keep, file_bytes):
    images, kept = pixels(6, 3, 4, 4), np.array(keep, bool)
    rows = Rows(tmp_path, 6, (3, 4, 4), Sizes(file_bytes=file_bytes))
    written = np.array([row for row in order if kept[row]])
    rows.put(written[:2], images[written[:2]])
    if len(written) > 2:
        rows.put(written[2:], images[written[2:]])
    for shard in range(rows.shards):
        span, seen = rows.span(shard), []
        if not kept[span].any():
            continue
        md5 = rows.finish(shard, kept[span], seen.append)
        np.save(tmp_path / "b.npy", images[span][kept[span]])
        assert rows.finished(shard).read_bytes() == (tmp_path / "b.npy").read_bytes()
        assert md5 == hashlib.md5((tmp_path / "b.npy").read_bytes()).hexdigest()
        np.testing.assert_array_equal(np.concatenate(seen), images[span][kept[span]])
    assert {path.name for path in tmp_path.iterdir()} <= {"b.npy", *(rows.finished(n).name for n in range(rows.shards))}


def grow(path: Path, n: int) -> Path:
    """A raw set of n images of 48 KiB in the format that the path's name says."""
    images = np.zeros((n, 128, 128, 3), np.uint8)
    if path.suffix == ".npy":
        np.save(path, images)
    elif path.suffix == ".npz":
        np.savez_compressed(path, images)
    else:
        files = {f"{i}.png": encoded(image) for i, image in enumerate(images)}
        tarred(path, files, "w:gz") if path.suffix else write(path, files)
    return path


@pytest.mark.parametrize("suffix", [".npy", ".npz", "", ".tar.gz"])
def test_memory_does_not_grow_with_the_set(tmp_path, suffix):
    def peak(n: int) -> int:
        raw = grow(tmp_path / f"{n}{suffix}", n)
        settings = Data(resolution=128, channels=3, held_out=0.2)
        return traced(lambda: prepare(raw, tmp_path / "out", settings, lambda done, total: None, processes=1))[1]

    # Half of the pixels: what may grow is names, and Python's own table of them.
    assert peak(800) - peak(400) < 400 * 128 * 128 * 3 / 2


# Mutated input is refused or prepared; nothing else is raised, not even a warning.


def _originals() -> dict[str, dict[str, bytes]]:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = photos(4, "a/") | {"b/1.jpg": encoded(pixels(1, 28, 28)[0], "JPEG")}
        files["b/1.webp"] = encoded(pixels(1, 28, 28)[0], "WEBP")
        np.save(folder / "a.npy", pixels(4, 28, 28))
        np.savez(folder / "a.npz", images=pixels(4, 28, 28), labels=np.arange(4))
        paths = [
            zipped(folder / "a.zip", files),
            tarred(folder / "a.tar", files),
            tarred(folder / "a.tgz", files, "w:gz"),
        ]
        single = {path.name: path.read_bytes() for path in [*paths, folder / "a.npy", folder / "a.npz"]}
    sets = {name: {name: data} for name, data in single.items()}
    return sets | {"idx": mnist(4), "idx.gz": mnist(4, compress=True), "folder": files}


ORIGINALS = _originals()
numbers = itertools.count()
MUTATION = st.tuples(st.floats(0, 1), st.sampled_from(["flip", "cut", "insert", "zero"]), st.integers(0, 255))


@pytest.mark.parametrize("kind", ORIGINALS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(st.lists(MUTATION, min_size=1, max_size=4), st.integers(0, 9))
@example([(0.0, "cut", 0)], 0)
def test_mutated_input_is_refused_or_prepared(tmp_path, kind, mutations, which):
    files = dict(ORIGINALS[kind])
    name = sorted(files)[which % len(files)]
    data = bytearray(files[name])
    for place, how, value in mutations:
        at = int(place**3 * (len(data) - 1)) if data else 0  # headers are where it hurts
        if how == "cut":
            del data[at:]
        elif how == "insert":
            data[at:at] = bytes([value])
        elif data:
            data[at] = data[at] ^ (value or 1) if how == "flip" else 0
    raw = write(tmp_path / f"fuzz{next(numbers)}", files | {name: bytes(data)})
    out = raw.with_suffix(".out")
    try:
        card = prepare(raw, out, Data(held_out=0.5, max_rejected_fraction=0.9), lambda done, total: None)
    except DataError:
        assert not out.exists()
    else:
        assert len(np.load(out / "images.npy")) == card["train"] + card["held_out"]

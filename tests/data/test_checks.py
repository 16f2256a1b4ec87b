"""Duplicates, leaks, blanks and the rules that stop the pipeline; the data card."""

import io
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import shell
from PIL import Image
from raw_sets import encoded, mnist, pixels, run, write

from ganflow.artifacts import Prepared
from ganflow.config import Checks, Data
from ganflow.data import prepare
from ganflow.data.checks import broken_rules, check_prepared
from ganflow.data.duplicates import exact_duplicates, near_duplicates
from ganflow.data.signatures import signatures
from ganflow.errors import DataError


def shapes(n: int, size: int = 64, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Smooth coloured pictures, uint8 (n, C, R, R), each unlike the others."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8))
        made.append(np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC)).transpose(2, 0, 1)[:channels])
    return np.stack(made)


def changed(image: np.ndarray, how: str) -> np.ndarray:
    """(C, R, R) as it comes back from a re-encoding, a resize, or a brighter copy."""
    picture = Image.fromarray(image.transpose(1, 2, 0))
    if how == "jpeg":
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=60)
        picture = Image.open(file)
    elif how == "resize":
        picture = picture.resize((40, 40), Image.Resampling.LANCZOS).resize((64, 64), Image.Resampling.LANCZOS)
    elif how == "brighter":
        picture = picture.point(lambda value: int(value * 0.9 + 20))
    return np.asarray(picture).transpose(2, 0, 1)


def test_exact_duplicates_name_the_first_of_their_kind():
    images = shapes(300)
    images[[17, 200, 255]] = images[4]
    images[299] = images[3]
    assert exact_duplicates(images, signatures(images)).tolist() == [[3, 299], [4, 17], [4, 200], [4, 255]]


def test_equal_signatures_alone_are_no_exact_duplicates():
    images = np.repeat(shapes(1), 2, axis=0)
    images[1, 0, 0, 0] ^= 1
    assert (signatures(images)[0] == signatures(images)[1]).all()
    assert len(exact_duplicates(images, signatures(images))) == 0


@pytest.mark.parametrize("how", ["jpeg", "resize", "brighter"])
def test_near_duplicates_are_found_and_unlike_images_are_not(how):
    images = shapes(2000)
    copies = np.stack([changed(image, how) for image in images[:200]])
    pairs = {tuple(pair) for pair in near_duplicates(signatures(np.concatenate([images, copies]))).tolist()}
    wanted = {(i, 2000 + i) for i in range(200)}
    assert len(pairs & wanted) >= 198
    assert not pairs - wanted


@pytest.mark.parametrize("side", [28, 64])
def test_every_colour_is_blank_and_a_single_other_pixel_is_not(side):
    """A third of a grey value is no exact float, nor is the mean of many of them."""
    colours = pixels(200, 3)[..., None, None]
    images = np.broadcast_to(colours, (200, 3, side, side)).copy()
    assert not signatures(images)[:, 0].any()
    images[:, 1, 3, 5] ^= 1
    assert (signatures(images)[:, 0] == 1).all()


def test_a_flipped_or_a_blank_image_is_no_near_duplicate():
    images = shapes(100)
    blank = np.full((5, 3, 64, 64), 7, np.uint8)
    both = np.concatenate([images, images[..., ::-1], blank])
    found = signatures(both)
    assert len(near_duplicates(found)) == 0
    np.testing.assert_array_equal(np.flatnonzero(found[:, 0] == 0), np.arange(200, 205))


@pytest.mark.slow
def test_seventy_thousand_images_take_seconds():
    """Time doubles, or a little more, when the images do; a search of all pairs would quadruple."""
    images = np.random.default_rng(0).integers(0, 256, (140_000, 1, 28, 28), np.uint8)
    seconds = {}
    for n in (70_000, 140_000):
        found = signatures(images[:n])
        start = time.process_time()
        near_duplicates(found)
        exact_duplicates(images[:n], found)
        seconds[n] = time.process_time() - start
    assert seconds[70_000] < 10
    assert seconds[140_000] < 3 * seconds[70_000]


def flawed(folder: Path) -> Path:
    """60 images of two classes and 20 held-out ones: a blank, copies, a near copy with another label, two leaks."""
    images = shapes(80)
    images[5] = 0
    images[10] = images[11]
    images[40] = changed(images[12], "jpeg")
    images[60], images[61] = images[20], changed(images[21], "jpeg")
    images[71] = images[70]
    files = {}
    for i, image in enumerate(images):
        split, label = "train" if i < 60 else "test", "a" if i % 80 < 40 else "b"
        files[f"{split}/{label}/{i:02}.png"] = encoded(image.transpose(1, 2, 0))
    return write(folder / "raw", files | {"test/a/a.png": encoded(shapes(1, 32, seed=1)[0].transpose(1, 2, 0))})


FLAWED = {"held_out": "own", "resolution": 64, "channels": 3}


def findings(folder: Path) -> dict:
    return json.loads((folder / "out" / "findings.json").read_text())


def test_findings(tmp_path):
    run(flawed(tmp_path), **FLAWED)
    found = findings(tmp_path)
    assert found["images"] == {"train": 60, "held_out": 21}
    assert found["blank"] == {"count": 1, "fraction": 1 / 81, "examples": [5]}
    assert found["duplicates"] == {"count": 3, "fraction": 3 / 81, "examples": [[10, 11], [20, 61], [71, 72]]}
    assert [found["near_duplicates"]["count"], found["near_duplicates"]["examples"]] == [2, [[12, 40], [21, 62]]]
    assert found["leaked"] == {"count": 2, "fraction": 2 / 21, "examples": [[20, 61], [21, 62]]}
    assert found["label_conflicts"]["examples"] == [[12, 40], [20, 61], [21, 62]]
    assert found["classes"] == {"counts": {"a": 40, "b": 20}, "ratio": 2.0}
    assert found["sizes"] == {"64x64": 80, "32x32": 1}
    assert found["modes"] == {"RGB": 81}
    assert found["upscaled"] == {"count": 1, "fraction": 1 / 81}


RULES = {
    "max_duplicate_fraction": (3 / 81, r"3.70% \(3\) of the images equal an earlier one, above"),
    "max_near_duplicate_fraction": (2 / 81, "look like an earlier one"),
    "max_leaked_fraction": (2 / 21, r"9.52% \(2\) of the held-out images equal, or look like, a training image"),
    "max_blank_fraction": (1 / 81, "are of one colour"),
    "max_class_ratio": (2.0, "2 is the largest class over the smallest, above data.checks.max_class_ratio 1.9"),
    "max_label_conflict_fraction": (3 / 81, "look like one of another class"),
    "max_upscaled_fraction": (1 / 81, "have a side below data.resolution"),
}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_stops_at_its_bound(tmp_path, rule):
    raw, (bound, words) = flawed(tmp_path), RULES[rule]
    run(raw, **FLAWED, checks=Checks(**{rule: bound}))
    below = Checks(**{rule: round(bound * 0.95, 3)})
    with pytest.raises(DataError, match=words) as caught:
        prepare(raw, tmp_path / "new", Data(**FLAWED, checks=below), lambda done, total: None)
    assert f"data.checks.{rule} " in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_rules_without_a_finding_ask_nothing(tmp_path):
    write(tmp_path / "raw", {name: data for name, data in mnist().items() if "labels" not in name})
    run(tmp_path / "raw", held_out="own", checks=Checks(max_class_ratio=1, max_label_conflict_fraction=0))
    assert findings(tmp_path)["classes"] is None
    assert broken_rules(findings(tmp_path), Checks()) == []


def test_a_prepared_folder_checked_again_has_the_same_findings(tmp_path):
    run(flawed(tmp_path), **FLAWED)
    assert check_prepared(Prepared(tmp_path / "out")) == findings(tmp_path)


def test_the_command(tmp_path):
    run(flawed(tmp_path), **FLAWED)
    write(tmp_path, {"params.yaml": b"{}"})
    found = shell(tmp_path, "ganflow", "data", "check", "out")
    assert re.search(r"2 +9\.52% +of the held-out images equal", found)
    assert json.loads(shell(tmp_path, "ganflow", "data", "check", "out", "--json")) == findings(tmp_path)
    broken = shell(tmp_path, "ganflow", "data", "check", "out", "--set", "data.checks.max_leaked_fraction=0.05", code=1)
    assert "above data.checks.max_leaked_fraction 0.05; mend the data" in broken


def test_the_card_is_one_page_that_needs_nothing_else(tmp_path):
    run(flawed(tmp_path), **FLAWED)
    page = (tmp_path / "out" / "card.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)|url\(|@import|<script', page)
    assert page.count("data:image/png;base64,") == 6
    assert "60 training and 21 held-out images of 64 x 64" in " ".join(page.split())
    with Image.open(tmp_path / "out" / "montage.png") as montage:
        assert montage.size == (20 * 66 - 2, 3 * 66 - 2)

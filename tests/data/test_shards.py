"""WebDataset's tar shards and Parquet files with images' bytes."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from raw_sets import encoded, mnist, photos, pixels, refused, rejected, run, tarred, write

ANY = {"max_rejected_fraction": 0.99}


def samples(first: int, count: int, seed: int = 0) -> dict[str, bytes]:
    files = {}
    for i, image in enumerate(pixels(count, 28, 28, seed=seed), first):
        files |= {f"x/{i:05}.png": encoded(image), f"x/{i:05}.cls": str(i % 3).encode(), f"x/{i:05}.txt": b"words"}
    return files


def test_webdataset_shards_in_the_order_of_their_names(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    tarred(raw / "set-000001.tar", samples(10, 6, seed=1))
    tarred(raw / "set-000000.tar.gz", samples(0, 10), "w:gz")
    card, images, labels = run(raw, held_out=0.25)
    assert (card["train"], card["held_out"], card["classes"], card["rejected"]) == (12, 4, ["0", "1", "2"], [])
    both = np.concatenate([pixels(10, 28, 28), pixels(6, 28, 28, seed=1)])
    place = {image.tobytes(): n for n, image in enumerate(both)}
    assert [place[image.tobytes()] % 3 for image in images] == labels.tolist()
    write(raw, {"classes.txt": b"no\nyes\nmaybe\n"})
    assert run(raw)[0]["classes"] == ["no", "yes", "maybe"]
    write(raw, {"classes.txt": b"no\nyes\n"})
    assert "has the label 2, outside the 2 classes" in refused(raw)


def test_a_single_webdataset_archive_and_its_own_split(tmp_path):
    tarred(tmp_path / "one.tar", samples(0, 10))
    assert run(tmp_path / "one.tar")[0]["classes"] == ["0", "1", "2"]
    for name, first in (("my-train-0.tar", 0), ("my-train-1.tar", 10), ("my-val-0.tar", 20)):
        (tmp_path / "raw").mkdir(exist_ok=True)
        tarred(tmp_path / "raw" / name, samples(first, 10, seed=first))
    card, images, _ = run(tmp_path / "raw", held_out="own")
    assert (card["train"], card["held_out"]) == (20, 10)
    np.testing.assert_array_equal(images[20:, 0], pixels(10, 28, 28, seed=20))


def test_labels_in_json_are_words_or_numbers(tmp_path):
    image = encoded(pixels(1, 28, 28)[0])
    files = {}
    for i, label in enumerate(["dog", "cat", "dog", "cat"]):
        files |= {f"{i}.webp": image, f"{i}.json": json.dumps({"label": label, "more": [1]}).encode()}
    _, _, labels = run(tarred(tmp_path / "a.tar", files), held_out=0.5)
    assert labels.sum() == 2
    assert run(tmp_path / "a.tar", held_out=0.5)[0]["classes"] == ["cat", "dog"]
    assert "1 images without a label among 5" in refused(tarred(tmp_path / "b.tar", files | {"9.png": image}))
    bad = files | {"8.png": image, "8.json": b'{"label": [1]}', "7.png": image, "7.cls": b"one"}
    assert "2 images without a label among 6" in refused(tarred(tmp_path / "c.tar", bad), **ANY)


def test_archives_without_labels_are_one_set_without_classes(tmp_path):
    (tmp_path / "raw").mkdir()
    for n in range(3):
        tarred(tmp_path / "raw" / f"{n}.tar", photos(5) | {"../x.png": b"", "a.pdf": b""})
    card, images, labels = run(tmp_path / "raw", **ANY)
    assert (len(images), labels, card["classes"]) == (15, None, None)
    assert rejected(card) == {f"{n}.tar/../x.png": "climbs out of the archive with .." for n in range(3)}


def parquet(path, count, labels=None, seed=0, **options):
    images = [{"bytes": encoded(image), "path": None} for image in pixels(count, 28, 28, seed=seed)]
    table = {"image": pa.array(images, pa.struct({"bytes": pa.binary(), "path": pa.string()}))}
    if labels is not None:
        table["label"] = pa.array(labels)
    path.parent.mkdir(exist_ok=True)
    made = pa.table(table)
    if "names" in options:
        features = {"info": {"features": {"label": {"names": options.pop("names"), "_type": "ClassLabel"}}}}
        made = made.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(made, path, **options)
    return path


@pytest.mark.parametrize("options", [{}, {"row_group_size": 3}, {"compression": "zstd"}, {"use_dictionary": False}])
def test_parquet_as_hugging_face_writes_it(tmp_path, options):
    raw = tmp_path / "raw"
    parquet(raw / "train-00000-of-00002.parquet", 10, [0, 1] * 5, **options)
    parquet(raw / "train-00001-of-00002.parquet", 6, [0, 1] * 3, seed=1, **options)
    parquet(raw / "test-00000-of-00001.parquet", 4, [1] * 4, seed=2, **options)
    card, images, labels = run(raw, held_out="own")
    assert (card["train"], card["held_out"], card["classes"]) == (16, 4, ["0", "1"])
    wanted = np.concatenate([pixels(n, 28, 28, seed=seed) for n, seed in ((10, 0), (6, 1), (4, 2))])
    np.testing.assert_array_equal(images[:, 0], wanted)
    np.testing.assert_array_equal(labels, [0, 1] * 8 + [1] * 4)


def test_class_names_of_parquet(tmp_path):
    single = parquet(tmp_path / "raw" / "a.parquet", 6, [0, 1] * 3, names=["no", "yes"])
    assert run(single.parent, held_out=0.5)[0]["classes"] == ["no", "yes"]
    write(tmp_path / "raw", {"classes.txt": b"nein\nja\n"})
    assert run(tmp_path / "raw", held_out=0.5)[0]["classes"] == ["nein", "ja"]
    words = parquet(tmp_path / "words" / "a.parquet", 6, ["b", "a"] * 3)
    assert run(words.parent, held_out=0.5)[0]["classes"] == ["a", "b"]
    assert run(parquet(tmp_path / "none" / "a.parquet", 6).parent, held_out=0.5)[0]["classes"] is None


def test_parquet_that_has_no_images(tmp_path):
    pq.write_table(pa.table({"x": [1], "label": [1]}), tmp_path / "a.parquet")
    assert "has the columns x, label; it needs image.bytes" in refused(tmp_path / "a.parquet")
    assert "labels of the type double" in refused(parquet(tmp_path / "b" / "b.parquet", 2, [0.5, 1.5]))
    assert "2 images without a label among 4" in refused(parquet(tmp_path / "c" / "c.parquet", 4, [0, None, 1, None]))
    write(tmp_path, {"d.parquet": b"PAR1" + bytes(100)})
    assert "cannot read" in refused(tmp_path / "d.parquet")
    images = pa.array([{"bytes": None, "path": "x.png"}, {"bytes": encoded(pixels(1, 28, 28)[0]), "path": None}] * 3)
    pq.write_table(pa.table({"image": images}), tmp_path / "e.parquet")
    assert rejected(run(tmp_path / "e.parquet", held_out=0.5, **ANY)[0]) == {
        f"e.parquet[{row}]": "has no bytes" for row in (0, 2, 4)
    }


def test_the_mnist_family_still_comes_first(tmp_path):
    assert run(write(tmp_path / "raw", mnist()), held_out="own")[0]["train"] == 20

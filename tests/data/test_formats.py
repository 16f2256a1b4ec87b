"""Every format gives the same images and labels as the pixels that were written."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image
from raw_sets import encoded, idx, mnist, photos, pixels, refused, rejected, run, tarred, write, zipped

ANY = {"max_rejected_fraction": 0.99}


@pytest.mark.parametrize("compress", [False, True])
def test_idx_folder_with_its_own_split(tmp_path, compress):
    card, images, labels = run(write(tmp_path / "raw", mnist(20, compress)), held_out="own")
    assert (images.shape, images.dtype, labels.dtype) == ((30, 1, 28, 28), np.uint8, np.int64)
    np.testing.assert_array_equal(images[:20, 0], pixels(20, 28, 28, seed=20))
    np.testing.assert_array_equal(images[20:, 0], pixels(10, 28, 28, seed=10))
    np.testing.assert_array_equal(labels, [*(np.arange(20) % 3), *(np.arange(10) % 3)])
    assert (card["train"], card["held_out"], card["classes"]) == (20, 10, ["0", "1", "2"])
    assert card["class_counts"] == {"train": {"0": 7, "1": 7, "2": 6}, "held_out": {"0": 4, "1": 3, "2": 3}}


def test_classes_txt_names_the_classes_of_arrays(tmp_path):
    names = {"classes.txt": "Füße\n\n Hut \nRock\n".encode()}
    assert run(write(tmp_path / "raw", mnist() | names))[0]["classes"] == ["Füße", "Hut", "Rock"]


def test_idx_without_labels_and_a_single_idx_file(tmp_path):
    data = idx(pixels(20, 28, 28))
    card, whole, labels = run(write(tmp_path / "raw", {"train-images-idx3-ubyte": data}))
    assert (labels, card["classes"], card["class_counts"], card["labels_md5"]) == (None, None, None, None)
    write(tmp_path, {"some-images-idx3-ubyte": data})
    np.testing.assert_array_equal(run(tmp_path / "some-images-idx3-ubyte")[1], whole)


def test_a_stranger_among_idx_files_is_rejected_by_name(tmp_path):
    files = mnist(300) | {"x.png": b"", "README": b"", ".hidden": b"", "LICENSE": b"", "a.csv": b"", "b.md": b""}
    assert rejected(run(write(tmp_path / "raw", files))[0]) == {"x.png": "is not a file of the MNIST family"}


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG"])
def test_folders_of_image_files(tmp_path, kind):
    images = pixels(10, 28, 28)
    options = {"lossless": True} if kind == "WEBP" else {}
    write(tmp_path / "raw", {f"{i}.{kind.lower()}": encoded(image, kind, **options) for i, image in enumerate(images)})
    card, prepared, labels = run(tmp_path / "raw")
    assert (card["train"], card["held_out"], card["classes"], labels) == (8, 2, None, None)
    if kind != "JPEG":
        np.testing.assert_array_equal(sorted(x.tobytes() for x in prepared), sorted(x.tobytes() for x in images))


LAYOUT = photos(4, "train/cat/") | photos(3, "train/dog/") | photos(2, "test/cat/") | photos(2, "val/dog/")


def test_folders_are_splits_and_classes(tmp_path):
    card, images, labels = run(write(tmp_path / "raw", LAYOUT), held_out="own")
    assert (card["train"], card["held_out"], card["classes"]) == (7, 4, ["cat", "dog"])
    np.testing.assert_array_equal(labels, [0, 0, 0, 0, 1, 1, 1, 0, 0, 1, 1])
    np.testing.assert_array_equal(images[:4, 0], pixels(4, 28, 28))


def test_archives_give_what_the_folder_gives(tmp_path):
    wanted = run(write(tmp_path / "folder", LAYOUT), held_out="own")
    inside = {f"./photos/{name}": data for name, data in reversed(LAYOUT.items())}
    sets = [zipped(tmp_path / "a.zip", inside), tarred(tmp_path / "a.tar", inside)]
    sets += [tarred(tmp_path / f"a.{kind}", inside, f"w:{kind[-2:]}") for kind in ("tar.gz", "tar.xz")]
    sets += [tarred(tmp_path / "a.tar.bz2", inside, "w:bz2"), tarred(tmp_path / "a.tgz", inside, "w:gz")]
    for raw in sets:
        card, images, labels = run(raw, held_out="own")
        np.testing.assert_array_equal(images, wanted[1])
        np.testing.assert_array_equal(labels, wanted[2])
        assert card["images_md5"] == wanted[0]["images_md5"]


def test_a_folder_of_one_archive_is_that_archive(tmp_path):
    (tmp_path / "raw").mkdir()
    zipped(tmp_path / "raw" / "a.zip", photos(5, "x/a/") | photos(5, "x/b/"))
    write(tmp_path / "raw", {"LICENSE": b"", "readme.md": b"", ".DS_Store": b""})
    assert run(tmp_path / "raw")[0]["classes"] == ["a", "b"]


@pytest.mark.parametrize(
    "shape", [(8, 9), (8, 9, 3), (3, 8, 9), (8, 9, 1), (4, 8, 9), (1, 8, 9), (28, 28), (3, 28, 28)]
)
def test_npy(tmp_path, shape):
    array = pixels(10, *shape)
    np.save(tmp_path / "a.npy", array)
    _, images, _ = run(tmp_path / "a.npy", channels=3)
    assert images.shape == (10, 3, 28, 28)
    if shape == (3, 28, 28):
        np.testing.assert_array_equal(sorted(map(bytes, images)), sorted(map(bytes, array)))
    if shape == (28, 28):
        np.testing.assert_array_equal(sorted(map(bytes, images[:, 1])), sorted(map(bytes, array)))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    x, y = pixels(20, 28, 28), np.arange(20, dtype=np.int32) % 2
    save(tmp_path / "keras.npz", x_train=x[:15], y_train=y[:15], x_test=x[15:], y_test=y[15:])
    save(tmp_path / "labels.npz", images=x, labels=y)
    save(tmp_path / "one.npz", whatever=x)
    _, images, labels = run(tmp_path / "keras.npz", held_out="own")
    np.testing.assert_array_equal(images[:, 0], x)
    np.testing.assert_array_equal(labels, y)
    assert run(tmp_path / "labels.npz")[0]["class_counts"] is not None
    assert run(tmp_path / "one.npz")[0]["class_counts"] is None


def test_npz_takes_its_class_names_from_the_folder(tmp_path):
    write(tmp_path / "raw", {"classes.txt": b"no\nyes\n"})
    np.savez(tmp_path / "raw" / "a.npz", images=pixels(8, 28, 28), labels=np.arange(8) % 2)
    assert run(tmp_path / "raw")[0]["classes"] == ["no", "yes"]
    write(tmp_path / "raw", {"classes.txt": b"no\n"})
    assert "label 1, outside the 1 classes" in refused(tmp_path / "raw")


def test_a_single_shared_folder_is_no_class_and_stray_files_are_rejected(tmp_path):
    assert run(write(tmp_path / "one", photos(5, "faces/thumbs/")))[0]["classes"] is None
    files = photos(5, "a/") | photos(5, "b/") | photos(1)
    assert rejected(run(write(tmp_path / "two", files), **ANY)[0]) == {"00.png": "lies in no class or split folder"}


# How pixels are treated.


def one(tmp_path, image, **settings):
    data = image if isinstance(image, bytes) else encoded(image)
    return run(write(tmp_path / "raw", {"1.png": data, "2.png": data}), **{"held_out": 0.5} | settings)[1][0]


def test_resize_is_lanczos_of_the_middle_square(tmp_path):
    wide = pixels(1, 40, 60)[0]
    middle = Image.fromarray(wide[:, 10:50]).resize((28, 28), Image.Resampling.LANCZOS)
    stretched = Image.fromarray(wide).resize((28, 28), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(one(tmp_path, wide)[0], middle)
    np.testing.assert_array_equal(one(tmp_path, wide, crop="none")[0], stretched)


def test_arrays_are_treated_as_files_are(tmp_path):
    images = pixels(6, 40, 60, 3)
    np.save(tmp_path / "a.npy", images)
    write(tmp_path / "raw", {f"{i}.png": encoded(image) for i, image in enumerate(images)})
    np.testing.assert_array_equal(run(tmp_path / "a.npy")[1], run(tmp_path / "raw")[1])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode(tmp_path, mode, channels):
    image = Image.fromarray(pixels(1, 28, 28, 3)[0]).convert(mode)
    wanted = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(28, 28, channels).transpose(2, 0, 1)
    np.testing.assert_array_equal(one(tmp_path, image, channels=channels), wanted)


def test_transparency_is_black(tmp_path):
    image = np.full((28, 28, 4), 255, np.uint8)
    image[:14, :, 3] = 0
    prepared = one(tmp_path, image, channels=3)
    assert (prepared[:, :14] == 0).all()
    assert (prepared[:, 14:] == 255).all()
    palette = Image.fromarray(image[..., :3]).convert("P")
    index = palette.getpixel((0, 0))
    assert (one(tmp_path, encoded(palette, transparency=index)) == 0).all()
    assert (one(tmp_path, encoded(palette, transparency=b"\0" * 256)) == 0).all()


def test_photos_stand_upright(tmp_path):
    photo = Image.fromarray(pixels(1, 28, 28)[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    np.testing.assert_array_equal(one(tmp_path, encoded(photo, exif=exif))[0], photo.rotate(-90))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_of_an_animation_the_first_picture_is_taken(tmp_path, kind):
    first, second = (Image.fromarray(image) for image in pixels(2, 28, 28, 3))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    with Image.open(io.BytesIO(data)) as animation:
        assert animation.n_frames == 2
    np.testing.assert_array_equal(one(tmp_path, data, channels=3), np.asarray(first).transpose(2, 0, 1))


def test_lossy_held_out_images_are_counted_by_their_bytes(tmp_path):
    image = pixels(1, 28, 28, 3)[0]
    kinds = {"a.jpg": "JPEG", "b.png": "JPEG", "c.webp": "WEBP", "d.png": "PNG"}
    files = {f"test/{name}": encoded(image, kind) for name, kind in kinds.items()}
    files |= {"test/e.webp": encoded(image, "WEBP", lossless=True), "train/f.jpg": encoded(image, "JPEG")}
    assert run(write(tmp_path / "raw", files), held_out="own")[0]["lossy_held_out"] == 3


def test_archives_with_extended_headers(tmp_path):
    files = photos(5, "ä" * 60 + "/")
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "of git"}) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    assert run(tmp_path / "a.tar")[0]["train"] == 4

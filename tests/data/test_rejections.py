"""Every reason to leave a file out, and every error that ends the step."""

import gzip
import os
import stat
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image
from raw_sets import encoded, idx, mnist, photos, pixels, refused, rejected, run, tarred, traced, write, zipped

from ganflow.artifacts import Prepared
from ganflow.config import Data
from ganflow.data import prepare, raw
from ganflow.errors import ArtifactError

ANY = {"max_rejected_fraction": 0.99}
GOOD = photos(8)


def png(width: int, height: int) -> bytes:
    """The header of a PNG of this size, and no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + b"\0\0\1\0IDAT"
    )


def deep_colour() -> bytes:
    """A whole PNG of 28x28 pixels with 16 bits in each of red, green and blue, which Pillow itself does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 28, 28, 16, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(28 * 6)) * 28)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


REASONS = {
    "text.png": (b"no image", "is broken or cut short"),
    "empty.png": (b"", "is broken or cut short"),
    "cut.png": (encoded(pixels(1, 64, 64)[0])[:-2000], "is broken or cut short"),
    "cut.jpg": (encoded(pixels(1, 64, 64)[0], "JPEG")[:-900], "is broken or cut short"),
    "cut.webp": (encoded(pixels(1, 64, 64)[0], "WEBP")[:-900], "is broken or cut short"),
    "gif.png": (encoded(pixels(1, 28, 28)[0], "GIF"), "is broken or cut short"),
    "tiny.png": (encoded(pixels(1, 7, 28)[0]), "is 28x7 pixels, a side below data.min_size 8"),
    "bomb.png": (png(8193, 8192), "is 8193x8192, above 67108864 pixels, a decompression bomb"),
    "boom.png": (png(90000, 90000), "is above 67108864 pixels, a decompression bomb"),
    "cmyk.jpg": (
        encoded(Image.new("CMYK", (28, 28)), "JPEG"),
        "has the mode CMYK, not one of 1, L, LA, P, PA, RGB, RGBA",
    ),
    "deep.png": (
        encoded(pixels(1, 28, 28)[0].astype(np.uint16)),
        "has the mode I;16, not one of 1, L, LA, P, PA, RGB, RGBA",
    ),
    "deep_colour.png": (deep_colour(), "has 16 bits a channel, not 8"),
    "a.pdf": (b"%PDF", "is not .png, .jpg, .jpeg, .webp"),
}


@pytest.mark.parametrize("container", ["folder", "zip", "tar.gz"])
@pytest.mark.parametrize("name", REASONS)
def test_each_reason(tmp_path, name, container):
    data, reason = REASONS[name]
    files = {"00.png": GOOD["00.png"], name: data} | GOOD
    if container == "folder":
        card, images, _ = run(write(tmp_path / "raw", files), **ANY)
    elif container == "zip":
        card, images, _ = run(zipped(tmp_path / "a.zip", files), **ANY)
    else:
        card, images, _ = run(tarred(tmp_path / "a.tar.gz", files, "w:gz"), **ANY)
    assert rejected(card) == {name: reason}
    assert len(images) == 8 == card["train"] + card["held_out"]


def test_rejections_leave_no_gap(tmp_path):
    files = photos(30)
    for name in ("03.png", "04.png", "17.png", "29.png"):
        files[name] = b"broken"
    _, images, _ = run(write(tmp_path / "raw", files), **ANY)
    whole = {image.tobytes() for image in pixels(30, 28, 28)}
    assert {image.tobytes() for image in images} < whole
    assert len({image.tobytes() for image in images}) == len(images) == 26
    assert (tmp_path / "out" / "images.npy").stat().st_size == 128 + 26 * 784
    np.save(tmp_path / "same.npy", images)
    assert (tmp_path / "same.npy").read_bytes() == (tmp_path / "out" / "images.npy").read_bytes()


def test_labels_stay_with_their_images_and_reasons_are_sorted(tmp_path):
    files = {
        f"{name}/{i}.png": encoded(np.full((28, 28), i + n, np.uint8))
        for n, name in ((0, "a"), (100, "b"))
        for i in range(8)
    }
    broken = ("a/1.png", "a/5.png", "b/0.png")
    files |= dict.fromkeys(broken, b"broken")
    card, images, labels = run(tarred(tmp_path / "a.tar", dict(reversed(files.items()))), held_out=0.5, **ANY)
    np.testing.assert_array_equal(labels, images[:, 0, 0, 0] >= 100)
    assert tuple(rejected(card)) == broken
    assert sum(card["class_counts"]["train"].values()) == card["train"]


def test_too_many_rejections_are_an_error(tmp_path):
    write(tmp_path / "raw", GOOD | {"08.png": b"", "09.png": b""})
    message = refused(tmp_path / "raw", max_rejected_fraction=0.1)
    assert "2 of 10 files are rejected (20.0%), above data.max_rejected_fraction 0.1" in message
    assert "the first is 08.png, which is broken" in message
    assert run(tmp_path / "raw", max_rejected_fraction=0.2)[0]["rejected_count"] == 2


def test_nothing_but_rejections_is_an_error(tmp_path):
    write(tmp_path / "raw", dict.fromkeys(GOOD, b"broken"))
    assert "8 of 8 files are rejected (100.0%)" in refused(tmp_path / "raw")


def test_small_arrays_are_rejected_with_their_place(tmp_path):
    np.save(tmp_path / "a.npy", pixels(4, 6, 6))
    assert "4 of 4 files are rejected (100.0%)" in refused(tmp_path / "a.npy")
    assert "the first is a.npy[0], which is 6x6 pixels, a side below" in refused(tmp_path / "a.npy")


def test_odd_files_in_a_folder(tmp_path):
    write(tmp_path / "raw", GOOD)
    os.mkfifo(tmp_path / "raw" / "pipe.png")
    (tmp_path / "raw" / "gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "raw" / "link.png").symlink_to(tmp_path / "raw" / "00.png")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "raw" / "folder").symlink_to(tmp_path / "elsewhere")
    with (tmp_path / "raw" / "huge.png").open("wb") as file:
        file.truncate(raw.MAX_BYTES + 1)
    card, _, _ = run(tmp_path / "raw", **ANY)
    assert rejected(card) == {
        "pipe.png": "is not a regular file",
        "gone.png": "cannot be read (No such file or directory)",
        "folder": "is not a regular file",
        "huge.png": "is 268435457 bytes, above 268435456",
    }
    assert card["train"] + card["held_out"] == 9


ABSOLUTE, CLIMBS = "has an absolute name", "climbs out of the archive with .."
NAMES = {
    "/etc/1.png": ABSOLUTE, "../1.png": CLIMBS, "a/../../1.png": CLIMBS, "C:\\1.png": ABSOLUTE, "..\\1.png": CLIMBS,
    "../../.ssh/keys": CLIMBS,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_members_that_climb(tmp_path, name):
    files = GOOD | {name: GOOD["00.png"]}
    for archive in (zipped(tmp_path / "a.zip", files), tarred(tmp_path / "a.tar", files)):
        assert rejected(run(archive, **ANY)[0]) == {name: NAMES[name]}


def test_links_and_devices_in_a_tar(tmp_path):
    archive = tarred(tmp_path / "a.tar", GOOD)
    kinds = {"s.png": tarfile.SYMTYPE, "h.png": tarfile.LNKTYPE, "c.png": tarfile.CHRTYPE, "f.png": tarfile.FIFOTYPE}
    with tarfile.open(archive, "a") as file:
        for name, kind in kinds.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "00.png"
            file.addfile(member)
    link, device = "is a link", "is not a regular file"
    assert rejected(run(archive, **ANY)[0]) == {"s.png": link, "h.png": link, "c.png": device, "f.png": device}


def test_links_devices_and_locks_in_a_zip(tmp_path):
    archive = zipped(tmp_path / "a.zip", GOOD)
    with zipfile.ZipFile(archive, "a") as file:
        for name, mode in {"s.png": stat.S_IFLNK, "c.png": stat.S_IFCHR}.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = (mode | 0o644) << 16
            file.writestr(member, GOOD["00.png"])
        file.writestr("x.png", GOOD["00.png"], zipfile.ZIP_LZMA)
    data = bytearray(archive.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    assert rejected(run(archive, **ANY)[0]) == {
        "00.png": "is encrypted",
        "c.png": "is not a regular file",
        "s.png": "is a link",
        "x.png": "is compressed by method 14, not stored or deflated",
    }


def test_a_declared_bomb_is_not_inflated(tmp_path):
    size = raw.MAX_BYTES + 1
    zero = bytes(1 << 20)
    with (
        zipfile.ZipFile(zipped(tmp_path / "a.zip", GOOD), "a", zipfile.ZIP_DEFLATED) as file,
        file.open(zipfile.ZipInfo("bomb.png"), "w", force_zip64=True) as member,
    ):
        for _ in range(257):
            member.write(zero)
    assert rejected(run(tmp_path / "a.zip", **ANY)[0]) == {"bomb.png": f"is {257 << 20} bytes, above 268435456"}
    with tarfile.open(tarred(tmp_path / "a.tar", GOOD), "a") as archive:
        info = tarfile.TarInfo("bomb.png")
        info.size = size
        archive.addfile(info)
        archive.fileobj.truncate(archive.offset + size + 2048)
        archive.offset += size + 511
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress((tmp_path / "a.tar").read_bytes(), 1))
    assert rejected(run(tmp_path / "b.tar.gz", **ANY)[0]) == {"bomb.png": f"is {size} bytes, above 268435456"}


def test_a_member_that_lies_about_its_size_is_cut_and_rejected(tmp_path):
    archive = zipped(tmp_path / "a.zip", GOOD | {"lie.png": bytes(50 << 20)})
    data = bytearray(archive.read_bytes())
    struct.pack_into("<I", data, data.rindex(b"PK\x01\x02") + 24, 5000)
    archive.write_bytes(data)
    card, peak = traced(lambda: run(archive, **ANY)[0])
    assert rejected(card) == {"lie.png": "is broken or cut short"}
    assert peak < 10 << 20


def test_a_tar_header_that_would_fill_the_memory_is_an_error(tmp_path):
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 8 << 20
    data = long_name.tobuf(tarfile.GNU_FORMAT) + bytes(8 << 20) + bytes(1024)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(data))
    message, peak = traced(lambda: refused(tmp_path / "a.tar.gz"))
    assert "cannot read" in message
    assert peak < 4 << 20


# Errors of the whole set.


def test_nothing_there(tmp_path):
    assert "none does not exist" in refused(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "holds no image; give it" in refused(tmp_path / "empty")
    assert "1 other files, a.pdf, is not" in refused(write(tmp_path / "pdf", {"a.pdf": b""}))
    write(tmp_path, {"a.bmp": b""})
    assert "a.bmp is no raw set" in refused(tmp_path / "a.bmp")


@pytest.mark.parametrize("damage", ["images", "labels", "gzip", "long", "magic", "count", "promise", "empty"])
def test_damaged_idx(tmp_path, damage):
    compress = damage == "gzip"
    files = mnist(compress=compress)
    name = f"train-{'labels-idx1' if damage in ('labels', 'count') else 'images-idx3'}-ubyte{'.gz' * compress}"
    data = files[name]
    files[name] = {
        "images": data[:-1], "labels": data[:-1], "gzip": data[:-100], "long": data + b"x", "empty": b"",
        "magic": idx(pixels(20, 28)), "count": idx(np.zeros(19)), "promise": data[:4] + b"\x7f" + data[5:],
    }[damage]  # fmt: skip
    message = refused(write(tmp_path / "raw", files), held_out="own")
    assert name in message
    wanted = {
        "long": "holds more", "magic": "starts with 0x00000802, not 0x00000803", "promise": "is cut short",
        "count": "19 labels for the 20 images",
    }.get(damage, "cut short")  # fmt: skip
    assert wanted in message


def test_wrong_sets_of_idx_files(tmp_path):
    files = mnist()
    del files["t10k-labels-idx1-ubyte"]
    assert "labels of one split only" in refused(write(tmp_path / "a", files))
    test_only = {name: data for name, data in mnist().items() if name.startswith("t10k")}
    assert "has no train-images" in refused(write(tmp_path / "b", test_only))
    named = mnist() | {"classes.txt": b"a\nb\n"}
    assert "label 2, outside the 2 classes" in refused(write(tmp_path / "c", named))
    assert "names the class a twice" in refused(write(tmp_path / "d", mnist() | {"classes.txt": b"a\nb\na\n"}))
    assert "classes.txt as text" in refused(write(tmp_path / "e", mnist() | {"classes.txt": b"\xff"}))


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (pixels(4, 28, 28).astype(np.float32), "is float32 (4, 28, 28), not images"),
        (pixels(4, 28), "is uint8 (4, 28), not images"),
        (pixels(4, 5, 28, 5), "is uint8 (4, 5, 28, 5), not images"),
        (pixels(0, 28, 28), "is uint8 (0, 28, 28), not images"),
        (np.array([{}, 1]), "is object (2,), not images"),
        (np.asfortranarray(pixels(4, 28, 28)), "is in Fortran order"),
        (np.array(5, np.uint8), "is uint8 (), not images"),
    ],
)
def test_arrays_that_are_no_images(tmp_path, array, why):
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", images=array)
    assert why in refused(tmp_path / "a.npy")
    assert why in refused(tmp_path / "a.npz")


def test_damaged_numpy_files(tmp_path):
    np.save(tmp_path / "a.npy", pixels(50, 28, 28))
    whole = (tmp_path / "a.npy").read_bytes()
    write(tmp_path, {"a.npy": whole[:-1], "b.npy": whole + b"x", "c.npy": b"pickle", "d.npz": b"PK"})
    promise = whole.replace(b"(50,", b"(9999999,").replace(b" " * 5, b"", 1)
    write(tmp_path, {"e.npy": promise, "f.npy": b"\x93NUMPY\2" + whole[7:]})
    for name in ("a.npy", "b.npy", "c.npy", "d.npz", "e.npy", "f.npy"):
        assert name in refused(tmp_path / name)


def test_wrong_npz(tmp_path):
    x = pixels(6, 28, 28)
    for name, arrays, why in [
        ("a", {"foo": x, "bar": x}, "has the arrays bar, foo; save"),
        ("b", {"images": x, "labels": np.arange(5)}, "has 5 labels for the 6 images"),
        ("c", {"images": x, "labels": np.zeros(6)}, "labels in"),
        ("d", {"images": x, "labels": np.zeros((6, 2), int)}, "labels in"),
        ("e", {}, "has the arrays (none)"),
    ]:
        np.savez(tmp_path / f"{name}.npz", **arrays)
        assert why in refused(tmp_path / f"{name}.npz")
    with zipfile.ZipFile(tmp_path / "f.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", b"")
    assert "x.npy in " in refused(tmp_path / "f.npz")


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_cut_archive_is_an_error(tmp_path, part):
    for path in (
        zipped(tmp_path / "a.zip", GOOD),
        tarred(tmp_path / "a.tar", GOOD),
        tarred(tmp_path / "a.tar.gz", GOOD, "w:gz"),
        tarred(tmp_path / "a.tar.xz", GOOD, "w:xz"),
    ):
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * part)] if path.suffix != ".tar" else data[: 1536 * 4])
        assert f"cannot read {path}" in refused(path)


def test_a_damaged_header_does_not_end_a_tar(tmp_path):
    data = bytearray(tarred(tmp_path / "a.tar", GOOD).read_bytes())
    data[data.index(b"05.png")] = 0xFF
    (tmp_path / "a.tar").write_bytes(data)
    assert "cannot read" in refused(tmp_path / "a.tar")


def test_a_split_or_class_that_is_not_there(tmp_path):
    write(tmp_path / "raw", photos(5, "a/") | photos(5, "b/"))
    assert "set data.held_out to a fraction such as 0.1" in refused(tmp_path / "raw", held_out="own")
    assert "data.classes has c, and the raw set's classes are a, b;" in refused(tmp_path / "raw", classes=["a", "c"])
    assert "data.classes has a," in refused(tmp_path / "raw", classes=["a", "a"])
    assert "0 images are left for training and 0 held out" in refused(tmp_path / "raw", classes=[])
    assert "10 images are left for training and 0 held out" in refused(tmp_path / "raw", held_out=0.01)
    write(tmp_path / "plain", GOOD)
    assert "classes are (none)" in refused(tmp_path / "plain", classes=["a"])


def test_a_split_emptied_by_rejections_is_an_error(tmp_path):
    write(tmp_path / "raw", photos(9, "train/") | {"test/1.png": b"broken"})
    assert "9 images are left for training and 0 held out" in refused(tmp_path / "raw", held_out="own", **ANY)


def test_somebody_elses_folder_is_never_replaced(tmp_path):
    write(tmp_path / "raw", GOOD)
    with pytest.raises(ArtifactError, match="was not written by"):
        prepare(tmp_path / "raw", tmp_path / "raw", Data(held_out=0.2), lambda done, total: None)
    assert not Prepared(tmp_path / "raw").card.exists()
    assert len(list((tmp_path / "raw").iterdir())) == 8


def test_what_is_not_wanted_must_be_whole_too(tmp_path):
    files = mnist(2000, compress=True)
    name = "train-images-idx3-ubyte.gz"
    files[name] = files[name][:-50]
    assert "cut short" in refused(write(tmp_path / "raw", files), held_out="own", limit=5)

"""Mutated input of every format is refused or prepared: no traceback, no hang, no memory, nothing outside."""

import faulthandler
import itertools
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from raw_sets import encoded, mnist, photos, pixels, tarred, write, zipped

ROOT = Path(__file__).parent.parent.parent
SECONDS = 20
"""For one input, on a busy machine; they take milliseconds."""
GROWTH = 512 << 20
"""Bytes that the process may grow by over thousands of inputs."""


def originals(folder: Path) -> dict[str, dict[str, bytes]]:
    """Small sets of every format, as files by name."""
    image = Image.fromarray(pixels(1, 28, 28, 3)[0])
    exif = Image.Exif()
    exif[0x0112] = 6
    palette = image.convert("P")
    many = BytesIO()
    image.save(many, "PNG", save_all=True, append_images=[image.rotate(90)])
    kinds = {
        "a/1.jpg": encoded(image, "JPEG", exif=exif),
        "a/2.webp": encoded(image, "WEBP"),
        "a/3.webp": encoded(image, "WEBP", save_all=True, append_images=[image.rotate(90)]),
        "b/4.png": encoded(palette, transparency=3),
        "b/5.png": encoded(image.convert("LA")),
        "b/6.png": many.getvalue(),
        "b/7.png": encoded(pixels(1, 28, 28)[0].astype(np.uint16)),
        "b/8.jpg": encoded(image.convert("CMYK"), "JPEG"),
        "b/9.jpg": encoded(image, "JPEG", progressive=True),
    }
    files = photos(4, "a/") | kinds
    samples = {f"{i}.png": encoded(picture) for i, picture in enumerate(pixels(4, 28, 28))}
    samples |= {f"{i}.cls": b"1" for i in range(3)} | {"3.json": b'{"label": 0}'}
    bytes_of = [{"bytes": data, "path": name} for name, data in files.items()]
    table = pa.table({"image": bytes_of, "label": pa.array([0, 1] * 6 + [0])})
    pq.write_table(table, folder / "a.parquet", row_group_size=5)
    pq.write_table(table, folder / "plain.parquet", compression="none", use_dictionary=False)
    np.save(folder / "a.npy", pixels(4, 28, 28))
    np.savez(folder / "a.npz", images=pixels(4, 28, 28), labels=np.arange(4))
    np.savez_compressed(folder / "b.npz", x_train=pixels(4, 28, 28), x_test=pixels(4, 28, 28))
    zipped(folder / "a.zip", files)
    zipped(folder / "stored.zip", files, zipfile.ZIP_STORED)
    for name, mode in (("a.tar", "w"), ("a.tgz", "w:gz"), ("a.tar.xz", "w:xz"), ("a.tar.bz2", "w:bz2")):
        tarred(folder / name, files, mode)
    with tarfile.open(folder / "pax.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo("ü" * 60 + "/" + name)
            member.size = len(data)
            archive.addfile(member, BytesIO(data))
    tarred(folder / "samples.tar", samples)
    sets = {path.name: {path.name: path.read_bytes()} for path in sorted(folder.iterdir()) if path.is_file()}
    shards = {"0.tar": sets["samples.tar"]["samples.tar"], "1.tar": sets["samples.tar"]["samples.tar"]}
    return sets | {"idx": mnist(4), "idx.gz": mnist(4, compress=True), "folder": files, "shards": shards}


def mutated(data: bytes, random: np.random.Generator) -> bytes:
    """A few bits flipped, bytes lost, doubled, cut off, or numbers made huge; headers are where it hurts."""
    made = bytearray(data)
    for _ in range(random.integers(1, 5)):
        if not made:
            break
        at = int(random.random() ** 3 * len(made))
        at = len(made) - 1 - at if random.random() < 0.3 else at
        how = random.integers(0, 7)
        if how == 0:
            made[at] ^= 1 << int(random.integers(0, 8))
        elif how == 1:
            made[at] = int(random.integers(0, 256))
        elif how == 2:
            del made[at:]
        elif how == 3:
            del made[at : at + int(random.integers(1, 64))]
        elif how == 4:
            made[at:at] = made[at : at + int(random.integers(1, 512))]
        elif how == 5:
            made[at : at + 4] = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0"][int(random.integers(0, 3))]
        else:
            made[at : at + 8] = random.bytes(8)
    return bytes(made)


def fuzz(seed: int, count: int) -> dict[str, int]:
    """Prepare so many mutated sets; what became of them, and the growth of this process."""
    from ganflow.config import Data
    from ganflow.data import prepare
    from ganflow.errors import DataError

    random = np.random.default_rng(seed)
    settings = Data(held_out=0.5, max_rejected_fraction=0.95)
    ends = {"prepared": 0, "refused": 0, "growth": 0}
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "made").mkdir()
        sets = originals(Path(name) / "made")
        around = Path(name) / "around"
        for files in sets.values():
            prepare(write(around / "raw", files), around / "out", settings, lambda done, total: None)
            remove(around)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number, kind in zip(range(count), itertools.cycle(sets), strict=False):
            files = dict(sets[kind])
            chosen = sorted(files)[int(random.integers(0, len(files)))]
            files[chosen] = mutated(files[chosen], random)
            raw = write(around / "raw", files)
            raw = raw / next(iter(files)) if len(files) == 1 and number % 2 else raw
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            try:
                card = prepare(raw, around / "out", settings, lambda done, total: None, processes=1)
                ends["prepared"] += 1
                assert sum(file["count"] for file in card["files"]) == card["train"] + card["held_out"]
                remove(around / "out")
            except DataError:
                ends["refused"] += 1
            assert {path.name for path in around.iterdir()} == {"raw"}, kind
            assert {path.name for path in Path(name).iterdir()} == {"made", "around"}, kind
            remove(around / "raw")
    ends["growth"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    return ends


def remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    folder.rmdir()


def run_fuzz(seed: int, count: int, seconds: int) -> dict[str, int]:
    """In a process of its own: a crash of a library is seen, and a hang ends."""
    command = [sys.executable, "-W", "error", __file__, str(seed), str(count)]
    paths = f"{ROOT / 'src'}:{ROOT / 'tests' / 'data'}"
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, env=os.environ | {"PYTHONPATH": paths}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ends = json.loads(done.stdout)
    assert ends["prepared"] + ends["refused"] == count
    assert min(ends["prepared"], ends["refused"]) > count // 10
    assert ends["growth"] < GROWTH
    return ends


def test_some_hundred_mutated_sets():
    run_fuzz(0, 300, 120)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_ten_thousand_mutated_sets(seed):
    run_fuzz(seed, 2600, 900)


if __name__ == "__main__":
    print(json.dumps(fuzz(int(sys.argv[1]), int(sys.argv[2]))))

"""A million images of 64x64 in colour through `prepare`: `python -m benchmarks.million [N] [npy|tar]`.

Prints images a second, and the peak of the memory of all its processes together that is not a mapped file. With a tenth
of the images the peak is the same, but for names and signatures.
"""

import resource
import sys
import tarfile
import tempfile
import threading
import time
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from ganflow.config import Data
from ganflow.data import prepare


def make_npy(path: Path, count: int) -> None:
    """Noise, uint8 (count, 64, 64, 3)."""
    images = np.lib.format.open_memmap(path, "w+", np.uint8, (count, 64, 64, 3))
    random = np.random.default_rng(0)
    for first in range(0, count, 1000):
        images[first : first + 1000] = np.frombuffer(
            random.bytes(images[first : first + 1000].nbytes), np.uint8
        ).reshape(-1, 64, 64, 3)


def make_tar(path: Path, count: int) -> None:
    """PNG files; the same few hundred pictures again and again."""
    random = np.random.default_rng(0)
    files = []
    for _ in range(500):
        buffer = BytesIO()
        coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8))
        coarse.resize((64, 64), Image.Resampling.BICUBIC).save(buffer, "PNG")
        files.append(buffer.getvalue())
    with tarfile.open(path, "w") as archive:
        for number in range(count):
            member = tarfile.TarInfo(f"{number:08}.png")
            member.size = len(files[number % 500])
            archive.addfile(member, BytesIO(files[number % 500]))
            archive.members.clear()  # type: ignore[attr-defined]


def anonymous() -> int:
    """Bytes of memory of this process and its children that are no mapped files."""
    children = Path("/proc/self/task").glob("*/children")
    found = ["self", *(pid for path in children for pid in path.read_text().split())]
    total = 0
    for pid in found:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except FileNotFoundError:
            continue
        total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))
    return total


def main(count: int, kind: str) -> None:
    """Make the set, prepare it, watch."""
    with tempfile.TemporaryDirectory() as name:
        raw = Path(name) / f"raw.{kind}"
        (make_npy if kind == "npy" else make_tar)(raw, count)
        peaks, ended = [0], threading.Event()

        def watch() -> None:
            while not ended.wait(0.2):
                peaks[0] = max(peaks[0], anonymous())

        threading.Thread(target=watch, daemon=True).start()
        start = time.perf_counter()
        settings = Data(resolution=64, channels=3, held_out=0.1)
        card = prepare(raw, Path(name) / "out", settings, lambda done, total: None)
        seconds = time.perf_counter() - start
        ended.set()
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        cpu = sum(used.ru_utime + used.ru_stime for used in usage)
        print(
            f"{kind}: {count:,} images, {len(card['files'])} files, {seconds:.0f} s, {count / seconds:,.0f} images/s, "
            f"{cpu:.0f} CPU seconds, peak memory {peaks[0] / 2**20:.0f} MiB"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000, sys.argv[2] if len(sys.argv) > 2 else "npy")

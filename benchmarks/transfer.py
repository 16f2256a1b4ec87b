"""The fetch beside its peers, from one real S3 server on loopback: `python -m benchmarks.transfer`.

The peers, in turn, round by round: `dvc pull` (a process of its own), boto3's TransferManager as it comes, the same
with an md5 behind it, and bare HTTP that keeps nothing. Server and clients keep their files in --folder, in memory by
default, so that no disk is measured; the clients begin with an empty cache.
"""

import argparse
import http.client
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from s3transfer.manager import TransferManager

from ganflow.artifacts import file_hash
from ganflow.fetch import fetch
from ganflow.pin import Pin, make_pin

BUCKET = "bench"
THREADS = 8
PART = 8 << 20
Run = Callable[[Path], None]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=1000, help="of either set")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("/dev/shm"), help="(default: %(default)s)")
    parser.add_argument("--only", nargs="+", default=["archive", "shards"])
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}")
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from servers import s3

    with tempfile.TemporaryDirectory(prefix="ganflow-bench-", dir=arguments.folder) as folder:
        place = Path(folder)
        with s3(place, BUCKET) as variables:
            os.environ.update(variables)
            for name, sizes in (("archive", [arguments.mib]), ("shards", [1] * arguments.mib)):
                if name in arguments.only:
                    table(name, measure(pushed(place / name, sizes), arguments.rounds, place), arguments)


def pushed(project: Path, sizes: list[int]) -> Path:
    """A DVC project with files of so many MiB, pushed."""
    (project / "data" / "set").mkdir(parents=True)
    for number, size in enumerate(sizes):
        with (project / "data" / "set" / f"{number:04d}.tar").open("wb") as file:
            for _ in range(size):
                file.write(os.urandom(1 << 20))
    commands = [
        "git init --quiet",
        "dvc init --quiet",
        f"dvc remote add --quiet --default s s3://{BUCKET}/{project.name}",
    ]
    for command in (*commands, "dvc add --quiet data/set", "dvc push --quiet"):
        subprocess.run(command.split(), cwd=project, check=True)
    return project


def measure(project: Path, rounds: int, place: Path) -> dict[str, list[float]]:
    """Seconds of each peer, a list by name."""
    pin = make_pin(project / "data" / "set")
    keys = [key_of(path) for path in sorted((project / "data" / "set").iterdir())]
    runs = peers(project, pin, [f"{project.name}/{key}" for key in keys])
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            out = place / "out"
            out.mkdir()
            start = time.perf_counter()
            run(out)
            seconds[name].append(time.perf_counter() - start)
            shutil.rmtree(out)
    return seconds


def key_of(path: Path) -> str:
    """Where DVC has put a file."""
    md5 = file_hash(path, "md5")
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def peers(project: Path, pin: Pin, keys: list[str]) -> dict[str, Run]:
    """What is measured: each fills a folder."""
    client = boto3.client("s3", config=boto3.session.Config(max_pool_connections=20))

    def ours(out: Path) -> None:
        os.environ["GANFLOW_CACHE"] = str(out)
        fetch(pin)

    def boto(out: Path) -> None:
        with TransferManager(client) as manager:
            for future in [manager.download(BUCKET, key, str(out / key.replace("/", "_"))) for key in keys]:
                future.result()

    def boto_md5(out: Path) -> None:
        boto(out)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda path: file_hash(path, "md5"), out.iterdir()))

    def dvc(out: Path) -> None:
        for old in (project / "data" / "set", project / ".dvc" / "cache"):
            shutil.rmtree(old, ignore_errors=True)
        subprocess.run(["dvc", "pull", "--quiet"], cwd=project, check=True)

    def raw(out: Path) -> None:
        size = pin.size // len(keys)
        pieces = [(key, start, min(start + PART, size) - 1) for key in keys for start in range(0, size, PART)]
        with ThreadPoolExecutor(THREADS) as pool:
            received = sum(pool.map(lambda thread: read_all(client, pieces[thread::THREADS]), range(THREADS)))
        assert received == pin.size

    return {"bare HTTP, nothing kept": raw, "boto3 TransferManager, nothing checked": boto,
            "boto3, then md5": boto_md5, "ganflow fetch, md5 checked": ours, "dvc pull": dvc}  # fmt: skip


def read_all(client: Any, pieces: list[tuple[str, int, int]]) -> int:
    """Read ranges of objects over one connection into one buffer; returns the bytes."""
    connection = http.client.HTTPConnection(urlsplit(client.meta.endpoint_url).netloc)
    buffer, received = bytearray(1 << 20), 0
    for key, first, last in pieces:
        url = urlsplit(client.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": key}))
        connection.request("GET", f"{url.path}?{url.query}", headers={"Range": f"bytes={first}-{last}"})
        answer = connection.getresponse()
        while count := answer.readinto(buffer):
            received += count
    return received


def table(name: str, seconds: dict[str, list[float]], arguments: argparse.Namespace) -> None:
    """Print the medians; the ratio is to boto3's own."""
    mega = arguments.mib * (1 << 20) / 1e6
    what = f"one archive of {mega:,.0f} MB" if name == "archive" else f"{arguments.mib} shards of 1.05 MB"
    print(f"\n| {what}, median of {arguments.rounds} | MB/s | range | to boto3 |\n| --- | --- | --- | --- |")
    base = statistics.median(seconds["boto3 TransferManager, nothing checked"])
    for peer, taken in seconds.items():
        low, middle, high = (mega / second for second in (max(taken), statistics.median(taken), min(taken)))
        print(f"| {peer} | {middle:.0f} | {low:.0f} to {high:.0f} | {middle * base / mega:.2f} |", flush=True)


if __name__ == "__main__":
    main()

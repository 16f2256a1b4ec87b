"""All cores, interruptions, pieces and files: always the same bytes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from raw_sets import encoded, photos, pixels, run, tarred, write, zipped

from ganflow.artifacts import Prepared
from ganflow.config import Data
from ganflow.data import merge, prepare, prepare_piece
from ganflow.data.journal import SECONDS
from ganflow.data.raw import SIZES, Sizes
from ganflow.errors import ArtifactError, DataError, GanflowError
from ganflow.images import Stack, open_prepared

ROOT = Path(__file__).parent.parent.parent
SETTINGS = Data(held_out=0.2, max_rejected_fraction=0.5)


def quiet(done: int, total: int) -> None:
    """No progress."""


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def two_classes(n: int) -> dict[str, bytes]:
    """2 n images, three of which are broken, and a file that is none."""
    made = photos(n, "a/") | photos(n, "b/") | {"b/y.pdf": b""}
    return made | dict.fromkeys(sorted(made)[5:500:200], b"broken")


SMALL = Sizes(chunk_images=16)


def in_files_of(images: int, chunk_images: int = 16) -> Sizes:
    return Sizes(chunk_images, file_bytes=images * 28 * 28)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz", "npy"])
def test_any_number_of_processes_gives_the_same_bytes(tmp_path, kind):
    found = tmp_path / f"set.{kind}"
    if kind == "npy":
        np.save(found, pixels(1100, 40, 40))
    else:
        maker = {"folder": write, "zip": zipped, "tar": tarred, "tar.gz": lambda *set: tarred(*set, "w:gz")}[kind]
        maker(found, two_classes(150))
    for processes in (1, 3):
        prepare(found, tmp_path / str(processes), SETTINGS, quiet, processes, SMALL)
    assert files(tmp_path / "1") == files(tmp_path / "3")


@pytest.mark.parametrize("sizes", [SMALL, in_files_of(100)], ids=["one file", "many files"])
def test_an_interrupted_one_goes_on_where_it_was(tmp_path, sizes):
    found, out = write(tmp_path / "raw", two_classes(200)), tmp_path / "out"
    prepare(found, tmp_path / "whole", SETTINGS, quiet, 1, sizes)
    starts = []
    for _ in range(100):
        calls = []

        def stop(done, total, calls=calls):
            calls.append(done)
            if len(calls) == 7 and done < total:
                raise KeyboardInterrupt

        try:
            prepare(found, out, SETTINGS, stop, 1, sizes)
            break
        except KeyboardInterrupt:
            assert not out.exists()
            starts.append(calls[0])
    assert files(out) == files(tmp_path / "whole")
    assert len(starts) > 2
    assert starts == sorted(set(starts)), "each attempt begins where the last one ended"
    assert not (tmp_path / ".out.partial").exists()


SCRIPT = """
import sys
from pathlib import Path
from ganflow.config import Data
from ganflow.data import prepare
if __name__ == "__main__":
    settings = Data.model_validate_json(sys.argv[3])
    prepare(Path(sys.argv[1]), Path(sys.argv[2]), settings, lambda done, total: print(done, total, flush=True), 2)
"""


@pytest.mark.slow
def test_a_killed_one_leaves_no_process_and_goes_on(tmp_path):
    noise = [encoded(image) for image in pixels(60, 128, 128, 3)]
    found = write(tmp_path / "raw", {f"{i:05}.png": noise[i % 60] for i in range(2000)})
    settings = Data(held_out=0.2, resolution=64, channels=3)
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(tmp_path / "script.py"), str(found), str(tmp_path / "out"), settings.json_text()]
    begun = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert begun.stdout
    journal = tmp_path / ".out.partial" / ".journal"
    while not (journal.exists() and journal.stat().st_size):
        assert begun.poll() is None
        time.sleep(0.01)
    os.kill(begun.pid, signal.SIGKILL)
    begun.wait()
    begun.stdout.close()
    for _ in range(200):
        if subprocess.run(["pgrep", "-g", str(begun.pid)], capture_output=True).returncode:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the processes outlived their parent")
    calls = []
    prepare(found, tmp_path / "out", settings, lambda *call: calls.append(call), 1)
    whole = []
    prepare(found, tmp_path / "whole", settings, lambda *call: whole.append(call), 1)
    assert calls[0] > whole[0], "the first attempt's chunks are there"
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize("change", ["nothing", "content", "settings"])
def test_other_raw_files_or_settings_begin_anew(tmp_path, change):
    """A file of the same size, too."""
    np.save(tmp_path / "a.npy", pixels(200, 28, 28))

    def stop(done, total):
        if done > 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(tmp_path / "a.npy", tmp_path / "out", SETTINGS, stop, 1, SMALL)
    if change == "content":
        np.save(tmp_path / "a.npy", pixels(200, 28, 28, seed=1))
    settings = SETTINGS.model_copy(update={"seed": 1}) if change == "settings" else SETTINGS
    calls = []
    prepare(tmp_path / "a.npy", tmp_path / "out", settings, lambda done, total: calls.append(done), 1, SMALL)
    assert (calls[0] <= 16) == (change != "nothing")
    prepare(tmp_path / "a.npy", tmp_path / "whole", settings, quiet, 1)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize("reached", [1, 3, 5])
def test_killed_while_files_are_finished(tmp_path, reached):
    """Without a chance to write the journal: what a finished file was made of must not be done again, in part least."""
    sizes = in_files_of(20)
    found = write(tmp_path / "raw", two_classes(60))
    child = os.fork()
    if child == 0:
        wanted, calls = tmp_path / ".out.partial" / f"images-{reached:05}.npy", []

        def kill(done, total):
            calls.append(done)
            if wanted.exists():
                os._exit(9)
            if len(calls) == 1:
                time.sleep(SECONDS)  # the next chunk is in the journal on the disk, and those behind it are not yet

        prepare(found, tmp_path / "out", SETTINGS, kill, 1, sizes)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    prepare(found, tmp_path / "out", SETTINGS, quiet, 1, sizes)
    prepare(found, tmp_path / "whole", SETTINGS, quiet, 1, sizes)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_a_second_process_at_the_same_output_is_refused(tmp_path):
    found = write(tmp_path / "raw", photos(10))

    def meanwhile(done, total):
        with pytest.raises(ArtifactError, match="another process is writing"):
            prepare(found, tmp_path / "out", SETTINGS, quiet, 1)

    prepare(found, tmp_path / "out", SETTINGS, meanwhile, 1)


def test_a_killed_worker_is_one_sentence(tmp_path):
    found = write(tmp_path / "raw", photos(100))

    def kill(done, total):
        children = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "spawn_main"], capture_output=True, text=True)
        for child in children.stdout.split():
            os.kill(int(child), signal.SIGKILL)

    with pytest.raises(GanflowError, match="was killed, most likely for want of memory"):
        prepare(found, tmp_path / "out", SETTINGS, kill, 2, SMALL)
    prepare(found, tmp_path / "out", SETTINGS, quiet, 1, SMALL)


def pieces(found: Path, folder: Path, count: int, settings: Data = SETTINGS, sizes: Sizes = SIZES) -> list[Path]:
    for part in range(count):
        prepare_piece(found, folder / str(part), settings, part, count, quiet, 1, sizes)
    return [folder / str(part) for part in range(count)]


@pytest.mark.parametrize("count", [1, 3, 7])
def test_merged_pieces_are_the_whole(tmp_path, count):
    sizes = in_files_of(100, 256)
    found = write(tmp_path / "raw", two_classes(200))
    prepare(found, tmp_path / "whole", SETTINGS, quiet, 1, sizes)
    made = pieces(found, tmp_path / "pieces", count, sizes=sizes)
    merge([*made[1:], made[0]], tmp_path / "out", quiet, 1, sizes)
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_pieces_that_do_not_fit_are_refused(tmp_path):
    found = write(tmp_path / "raw", photos(30))
    made = pieces(found, tmp_path / "pieces", 3)
    other = pieces(found, tmp_path / "other", 3, SETTINGS.model_copy(update={"seed": 1}))

    def refused(folders: list[Path]) -> str:
        with pytest.raises(ArtifactError) as caught:
            merge(folders, tmp_path / "out", quiet, 1)
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    assert "the pieces 0/3, 2/3 are given, and the set has 3" in refused([made[0], made[2]])
    assert "0/3, 1/3, 1/3 are given" in refused([made[0], made[1], made[1]])
    assert "are no pieces of one set: parameters is" in refused([made[0], other[1], made[2]])
    (found / "00.png").write_bytes(encoded(pixels(1, 28, 28, seed=9)[0]))
    prepare_piece(found, tmp_path / "changed", SETTINGS, 2, 3, quiet, 1)
    assert "are no pieces of one set: raw_md5 is" in refused([made[0], made[1], tmp_path / "changed"])
    assert "has no piece.json" in refused([found])
    damaged = made[1] / "images.npy"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    assert "is damaged: its md5 is" in refused(made)


def test_a_piece_is_no_prepared_set(tmp_path):
    (piece,) = pieces(write(tmp_path / "raw", photos(10)), tmp_path, 1)
    with pytest.raises(ArtifactError, match="has no dataset.json"):
        open_prepared(Prepared(piece))


def test_the_rules_hold_for_the_merged_whole(tmp_path):
    found = write(tmp_path / "raw", photos(20) | {"x.png": b""})
    made = pieces(found, tmp_path / "pieces", 2, Data(held_out=0.2))
    with pytest.raises(DataError, match="1 of 21 files are rejected"):
        merge(made, tmp_path / "out", quiet, 1)


def test_many_files_are_indexed_as_one(tmp_path):
    found = write(tmp_path / "raw", photos(90))
    _, whole, _ = run(found)
    card = prepare(found, tmp_path / "many", Data(held_out=0.2), quiet, 1, in_files_of(20))
    assert [file["count"] for file in card["files"]] == [20, 20, 20, 20, 10]
    images, _, _ = open_prepared(Prepared(tmp_path / "many"))
    assert isinstance(images, Stack)
    assert (len(images), images.shape, images.nbytes, images.dtype) == (90, whole.shape, whole.nbytes, whole.dtype)
    index = np.random.default_rng(0).integers(0, 90, 50)
    np.testing.assert_array_equal(images[index], whole[index])
    np.testing.assert_array_equal(images[17:61][index[index < 44]], whole[17:61][index[index < 44]])
    np.testing.assert_array_equal(images[41], whole[41])
    np.testing.assert_array_equal(np.array(images[72:]), whole[72:])
    assert len(images[90:]) == 0
    damaged = tmp_path / "many" / "images-00003.npy"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError, match=r"images-00003.npy is damaged"):
        open_prepared(Prepared(tmp_path / "many"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["npy", "tar"])
def test_memory_is_flat(kind):
    """Of all processes together; what may grow is the names, the signatures and the tables of rows."""

    def peak(count: int) -> int:
        command = [sys.executable, "-m", "benchmarks.million", str(count), kind]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return int(done.stdout.split()[-2]) << 20

    assert peak(80_000) - peak(20_000) < 60_000 * 800

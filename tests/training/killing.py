"""Trainings that kill themselves at a chosen call of a Python function, as `kill -9` would; run as a script.

`python killing.py FOLDER SEED KILLS PROCESSES SETTINGS` trains once in peace, then again with KILLS random deaths, and
compares every file and tensor. It forks, so that torch is imported once.
"""

import json
import os
import random
import signal
import socket
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
warnings.simplefilter("ignore")

from runs import DATA, SMALL, assert_same, noise, without_outputs  # noqa: E402

from ganflow.artifacts import Model  # noqa: E402
from ganflow.config import Train  # noqa: E402
from ganflow.parallel import world  # noqa: E402
from ganflow.training import begin, conclude, train  # noqa: E402


def attempt(out: Path, settings: Train) -> None:
    """A training that goes on where it was, in every process that the environment names."""
    with world() as peers:
        state = begin(DATA, noise(), settings, Model(out), True, peers)
        train(state, noise(), DATA, settings, Model(out), world=peers)
        if peers.leads:
            conclude(Model(out))


def die_at(call: int) -> Callable[[object, str, object], None]:
    """A profiler that kills the process at the n-th event."""
    left = call

    def profile(frame: object, event: str, argument: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return profile


def count_events(task: Callable[[], None], file: Path) -> Callable[[], None]:
    """The task, which writes how many events a profiler sees."""

    def counted() -> None:
        seen = 0

        def profile(frame: object, event: str, argument: object) -> None:
            nonlocal seen
            seen += 1

        sys.setprofile(profile)
        task()
        sys.setprofile(None)
        file.write_text(str(seen))

    return counted


def fork(task: Callable[[], None], processes: int, call: int | None = None, victim: int = 0) -> bool:
    """Run the task in forked processes, of which one dies at that call; True when all ended well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = {_child(task, processes, rank, port, call if rank == victim else None) for rank in range(processes)}
    well = True
    while children:
        pid, status = os.waitpid(-1, 0)
        children.remove(pid)
        if status and well:  # torchrun, too, ends the others when one has died
            well = False
            for other in children:
                os.kill(other, signal.SIGKILL)
    return well


def _child(task: Callable[[], None], processes: int, rank: int, port: int, call: int | None) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank)}
    os.environ["WORLD_SIZE"] = str(processes)
    sys.stderr = sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - until the process ends
    status = 1
    try:
        if call is not None:
            sys.setprofile(die_at(call))
        task()
        status = 0
    finally:
        os._exit(status)


def main(folder: Path, seed: int, kills: int, processes: int, changes: dict[str, object]) -> None:
    """Compare a whole run with one that dies."""
    settings = Train.model_validate({**SMALL, "checkpoint_every_images": 64, **changes})
    assert fork(lambda: attempt(folder / "whole", settings), processes)
    events = folder / "events"
    assert fork(count_events(lambda: attempt(folder / "counted", settings), events), processes)
    total, draw = int(events.read_text()), random.Random(seed)
    died = 0
    while died < kills:
        call, victim = draw.randrange(1, total), draw.randrange(processes)
        if fork(lambda: attempt(folder / "cut", settings), processes, call, victim):
            assert_same(Model(folder / "whole"), Model(folder / "cut"))  # the rest was shorter than the call; once more
            without_outputs(Model(folder / "cut"))
        else:
            died += 1
    assert fork(lambda: attempt(folder / "cut", settings), processes)
    assert_same(Model(folder / "whole"), Model(folder / "cut"))
    print(f"died {died} times")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), json.loads(sys.argv[5]))

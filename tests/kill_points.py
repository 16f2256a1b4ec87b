"""Kill -9 a ganflow command before its every commit to the database, each time in a fresh child.

What was not committed is as if it had never been, so between two commits no point differs from another.

`python kill_points.py THREE WORK CASES`: for each case, from the store of THREE and after its commands `before`, for
k = 1, 2, … the command runs in a child that kills itself at its k-th commit, then the next command and
`history --verify`; until a child lives. Prints a line a kill as JSON. Children are forks: torch and MLflow are imported
once.
"""

import gc
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import mlflow.pyfunc  # noqa: F401
import torch
from sqlalchemy import Engine, event

from ganflow import custody, evaluate, serving  # noqa: F401
from ganflow.cli import main

VERIFY = ["history", "--verify", "--set", "register.name=tiny"]


def die_at(point: int) -> None:
    """SIGKILL this process when SQLAlchemy is about to commit for the point-th time."""
    left = point

    def count(connection: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "commit", count)


def child(*commands: list[str], point: int = 0) -> int:
    """The first command's exit code that is not 0 or 3, run one after the other in a child; -9 where it died."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    if point:
        die_at(point)
    os._exit(next((code for command in commands if (code := main(command)) not in (0, 3)), 0))


def warm_up(three: Path, work: Path) -> None:
    """Open the store once and close its connections: the children need not look at its tables again."""
    shutil.copy(three / "mlflow.db", work)
    main(VERIFY)
    for engine in [found for found in gc.get_objects() if isinstance(found, Engine)]:
        engine.dispose()


def run(case: dict[str, list[list[str]]], work: Path) -> None:
    store, before = work / "mlflow.db", work / "before.db"
    assert child(*case["before"]) == 0
    shutil.copy(store, before)
    point, code = 0, -9
    while code == -9:
        point += 1
        for left in work.glob("mlflow.db-*"):  # the journal of one who died is of the copy before
            left.unlink()
        shutil.copy(before, store)
        code = child(case["command"], point=point)
        after = child(case["next"], VERIFY)
        print(json.dumps({"command": case["command"], "point": point, "code": code, "after": after}), flush=True)


if __name__ == "__main__":
    three, work = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    os.chdir(work)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{work}/mlflow.db"
    warm_up(three, work)
    for case in json.loads(sys.argv[3]):
        shutil.copy(three / "mlflow.db", work)
        run(case, work)

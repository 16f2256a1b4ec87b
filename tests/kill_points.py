"""Kill -9 a ganflow command before and after its every statement to the database, each time in a fresh child.

`python kill_points.py THREE WORK COMMAND… -- NEXT…`: for k = 1, 2, … copy the store of THREE into WORK, run the command
in a child that kills itself at its k-th database call, then the next command, and then `history --verify`; until
a child lives. Prints a line a kill as JSON. Children are forks, so that torch and MLflow are imported once.
"""

import json
import os
import shutil
import signal
import sqlite3
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import mlflow.pyfunc  # noqa: F401
import torch

from ganflow import custody, evaluate, serving  # noqa: F401
from ganflow.cli import main

POINTS = {"execute", "executemany", "commit"}


def die_at(point: int) -> None:
    """SIGKILL this process at its point-th entry to, or return from, a call that changes or reads the database."""
    left = point

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal left
        if event in ("c_call", "c_return") and getattr(argument, "__name__", "") in POINTS:
            owner = getattr(argument, "__self__", None)
            if isinstance(owner, sqlite3.Cursor | sqlite3.Connection):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)


def child(arguments: list[str], point: int = 0) -> int:
    """Exit code of a command in a child; -9 where it died."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    if point:
        die_at(point)
    os._exit(main(arguments))


def run(three: Path, work: Path, command: list[str], following: list[str]) -> None:
    torch.set_num_threads(1)
    os.chdir(work)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{work}/mlflow.db"
    point, code = 0, -9
    while code == -9:
        point += 1
        shutil.copy(three / "mlflow.db", work)
        code = child(command, point)
        after = child(following)
        verified = child(["history", "--verify", "--set", "register.name=tiny"])
        print(json.dumps({"point": point, "code": code, "after": after, "verified": verified}), flush=True)


if __name__ == "__main__":
    arguments = sys.argv[3:]
    split = arguments.index("--")
    run(Path(sys.argv[1]), Path(sys.argv[2]), arguments[:split], arguments[split + 1 :])

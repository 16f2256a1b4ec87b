"""Kill -9 a ganflow command before and after its every commit to the database, each time in a fresh child.

What was not committed is as if it had never been, so between two commits no point differs from another.

`python kill_points.py THREE WORK COMMAND… -- NEXT…`: for k = 1, 2, … copy the store of THREE into WORK, run the command
in a child that kills itself at its k-th commit, then the next command and `history --verify`; until a child
lives. Prints a line a kill as JSON. Children are forks, so that torch and MLflow are imported once.
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


def die_at(point: int) -> None:
    """SIGKILL this process at its point-th entry to, or return from, a commit."""
    left = point

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal left
        if event not in ("c_call", "c_return") or getattr(argument, "__name__", "") != "commit":
            return
        left -= isinstance(argument.__self__, sqlite3.Connection)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(count)


def child(*commands: list[str], point: int = 0) -> int:
    """The first command's exit code that is not 0 or 3, run one after the other in a child; -9 where it died."""
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    if point:
        die_at(point)
    os._exit(next((code for command in commands if (code := main(command)) not in (0, 3)), 0))


def run(three: Path, work: Path, command: list[str], following: list[str]) -> None:
    torch.set_num_threads(1)
    os.chdir(work)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{work}/mlflow.db"
    point, code = 0, -9
    while code == -9:
        point += 1
        shutil.copy(three / "mlflow.db", work)
        code = child(command, point=point)
        after = child(following, ["history", "--verify", "--set", "register.name=tiny"])
        print(json.dumps({"point": point, "code": code, "after": after}), flush=True)


if __name__ == "__main__":
    arguments = sys.argv[3:]
    split = arguments.index("--")
    run(Path(sys.argv[1]), Path(sys.argv[2]), arguments[:split], arguments[split + 1 :])

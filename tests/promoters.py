"""`python promoters.py THREE WORK COMMANDS`: all commands at once, each in a child of its own; prints their codes.

Children are forks, so that MLflow is imported once; they wait for one another before they begin.
"""

import json
import os
import sys
from pathlib import Path

from kill_points import warm_up

from ganflow.cli import main

if __name__ == "__main__":
    three, work = Path(sys.argv[1]), Path(sys.argv[2])
    os.chdir(work)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{work}/mlflow.db"
    warm_up(three, work)
    gate, opens = os.pipe()
    children = []
    for command in json.loads(sys.argv[3]):
        if pid := os.fork():
            children.append(pid)
            continue
        os.close(opens)
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
        os.read(gate, 1)  # returns when the parent closes its end
        code = main(command)
        sys.stderr.flush()
        os._exit(code)
    os.close(opens)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]))

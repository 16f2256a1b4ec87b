"""One process of a small training; run by torchrun: `training_process.py FOLDER SETTINGS`."""

import json
import sys
from pathlib import Path

from runs import DATA, SMALL, noise

from ganflow.artifacts import Model
from ganflow.config import Train
from ganflow.parallel import world
from ganflow.training import begin, conclude, train

if __name__ == "__main__":
    out, settings = Model(Path(sys.argv[1])), Train.model_validate({**SMALL, **json.loads(sys.argv[2])})
    with world() as peers:
        state = begin(DATA, noise(), settings, out, True, peers)
        train(state, noise(), DATA, settings, out, world=peers)
        if peers.leads:
            conclude(out)

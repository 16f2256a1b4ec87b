"""A set larger than the memory that the training may have."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = """
import json, resource, sys
from pathlib import Path
import numpy as np
from runs import DATA, SMALL
from ganflow.artifacts import Model
from ganflow.config import Train
from ganflow.training import Sets, begin, train

images = np.load(sys.argv[1], mmap_mode="r")
sets = Sets(images, None, images[:64], None)
settings = Train.model_validate({**SMALL, "generator": "mlp", "discriminator": "cnn"})
spent = int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmData")))
resource.setrlimit(resource.RLIMIT_DATA, (spent * 1024 + int(sys.argv[2]), resource.RLIM_INFINITY))
out = Model(Path(sys.argv[3]))
train(begin(DATA, sets, settings, out, False), sets, DATA, settings, out)
print(json.dumps({"images": len(images)}))
"""
LIMIT = 256 << 20


@pytest.mark.slow
def test_a_set_of_four_times_the_memory_limit_trains(tmp_path):
    """RLIMIT_DATA bounds the memory that a process allocates; mapped files do not count."""
    count = 4 * LIMIT // 784
    mapped = np.lib.format.open_memmap(tmp_path / "images.npy", "w+", np.uint8, (count, 1, 28, 28))  # sparse: all zero
    mapped[0] = 255
    del mapped
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "images.npy"), str(LIMIT), str(tmp_path / "m")]
    environment = {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1", "PATH": ""}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"images": count}


def test_the_limit_would_stop_a_copy():
    """The same limit, and the set read into memory: the test above can fail."""
    script = (
        "import numpy, resource;"
        f"resource.setrlimit(resource.RLIMIT_DATA, ({LIMIT} + (64 << 20), resource.RLIM_INFINITY));"
        f"numpy.ones(4 * {LIMIT}, numpy.uint8)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "MemoryError" in done.stderr
    assert resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY

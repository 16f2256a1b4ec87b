"""A pod with several GPUs runs a process for each; here they are processes of the CPU."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ganflow import steps
from ganflow.artifacts import Model, file_hash
from ganflow.config import Data, Evaluate, Train

pytestmark = pytest.mark.slow
POD = """
import json, sys
from ganflow import steps
steps.train_in_pod("prepared", "reference", sys.argv[1], sys.argv[2])
"""
SETTINGS = Train(
    width=8, latent_dim=16, batch_size=32, total_images=3200, log_every_images=160, sample_every_images=3200,
    checkpoint_every_images=320, online_fid_images=64,
).json_text()  # fmt: skip


@pytest.fixture
def pod(raw: Path, tmp_path: Path) -> Path:
    """A folder with what the training reads."""
    steps.prepare(str(raw), str(tmp_path / "prepared"), Data(limit=512).json_text())
    evaluate = Evaluate(count=256, classifier_epochs=1).json_text()
    steps.reference(str(tmp_path / "prepared"), str(tmp_path / "reference"), evaluate)
    return tmp_path


def start(folder: Path, out: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment |= {"GANFLOW_PROCESSES": "2", "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/{out}.db"}
    command = [sys.executable, "-W", "ignore", "-c", POD, out, SETTINGS]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def when_saved(folder: Path, states: int) -> None:
    for _ in range(1200):
        if len(list((folder / "model/checkpoints").glob("[0-9]*.json"))) >= states:
            return
        time.sleep(0.05)
    raise TimeoutError(folder)


def workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    found = psutil.Process(process.pid).children(recursive=True)
    return [child for child in found if "torch.distributed.run" not in child.cmdline() and "train" in child.cmdline()]


def test_a_killed_process_ends_the_pod_and_the_next_gives_the_same_bits(pod: Path) -> None:
    whole = start(pod, "whole")
    said, _ = whole.communicate()
    assert whole.returncode == 0, said
    first = start(pod, "model")
    when_saved(pod, 2)
    both = workers(first)
    assert len(both) == 2
    both[1].send_signal(signal.SIGKILL)
    said, _ = first.communicate()
    assert first.returncode == 1
    assert "one of 2 training processes here ended with" in said
    second = start(pod, "model")
    said, _ = second.communicate()
    assert second.returncode == 0, said
    assert "going on after" in said
    for name in ("generator.safetensors", "history.jsonl"):
        assert file_hash(pod / "model" / name) == file_hash(pod / "whole" / name), name


def test_sigterm_saves_in_all_processes_and_is_no_success(pod: Path) -> None:
    process = start(pod, "model")
    when_saved(pod, 1)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate()
    assert process.returncode == 1, said
    assert not Model(pod / "model").card.exists()
    shutil.rmtree(pod / "model")

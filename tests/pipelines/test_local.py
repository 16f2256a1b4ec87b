"""`ganflow pipeline run`: when a task fails, when it is stopped, and a sweep; tests/test_flow.py has the whole run."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import yaml
from conftest import TINY, shell, start

from ganflow.artifacts import read_json


def lines_until(process, text: str, seconds: float = 120) -> str:
    """What a process says until a text comes."""
    said, end = "", time.monotonic() + seconds
    while text not in said and time.monotonic() < end:
        line = process.stdout.readline()
        assert line, f"it ended before {text!r}:\n{said}"
        said += line
    assert text in said
    return said


def test_failed_task_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(TINY))
    said = shell(tmp_path, "ganflow", "pipeline", "run", "nowhere", code=1)
    assert said.splitlines()[-1] == "ganflow: the task prepare failed; its last lines above say why"
    assert "ganflow.errors.DataError" in said


@pytest.mark.slow
def test_sigterm_reaches_the_task_which_saves(tmp_path: Path, raw: Path) -> None:
    """Only the command gets the signal: the training behind kfp's shell saves its state, and the command waits."""
    endless = TINY | {"train": TINY["train"] | {"total_images": 100_000_000, "checkpoint_every_images": 100_000_000}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(endless))
    process = start(tmp_path, "ganflow", "pipeline", "run", str(raw))
    said = lines_until(process, "'train'")
    time.sleep(20)
    os.kill(process.pid, signal.SIGTERM)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said + rest
    assert rest.splitlines()[-1] == "ganflow: stopped in the task train; its last lines above say what it saved"
    assert list(tmp_path.glob("run/kfp/training-*/train/model/checkpoints/*.safetensors")), rest


@pytest.mark.slow
def test_a_champion_of_another_protocol_is_measured_again(tmp_path: Path, raw: Path) -> None:
    """The first run finds no champion, the second one of its own protocol, the third one of another."""
    decisions = []
    for count, images in ((64, 256), (64, 320), (96, 384)):
        train, evaluate = TINY["train"] | {"total_images": images}, TINY["evaluate"] | {"count": count}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(TINY | {"train": train, "evaluate": evaluate}))
        answer = json.loads(shell(tmp_path, "ganflow", "pipeline", "run", str(raw), "--json").splitlines()[-1])
        measured = Path(answer["outputs"]["promote"]).parents[1] / "champion" / "measured"
        decisions.append((read_json(measured / "champion.json")["version"], answer["decision"]))
    [*_, champion] = [made["candidate"]["version"] for _, made in decisions[:2] if made["verdict"] == "promoted"]
    assert [version for version, _ in decisions] == [None, None, champion]
    again = decisions[2][1]["champion"]
    assert again["version"] == champion
    assert again["protocol"] == decisions[2][1]["candidate"]["protocol"]
    assert "another protocol" not in decisions[2][1]["reason"]


@pytest.mark.slow
def test_a_sweep_registers_the_best_alone(tmp_path: Path, raw: Path) -> None:
    sweep = {"grid": {"seed": [0, 1]}, "parallelism": 1}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(TINY | {"sweep": sweep}))
    command = ["ganflow", "pipeline", "run", str(raw), "--pipeline", "sweep", "--json"]
    answer = json.loads(shell(tmp_path, *command).splitlines()[-1])
    assert answer["decision"]["verdict"] == "promoted"
    outputs = {step: Path(path) for step, path in answer["outputs"].items()}
    folder = outputs["prepare"].parents[1]
    scores = [read_json(path) for path in folder.rglob("scores.json") if "best" not in path.parts]
    assert len({one["generator_sha256"] for one in scores}) == 2
    lowest = min(scores, key=lambda one: one[one["score"]])
    registration = read_json(outputs["register"])
    assert registration["version"] == "1"
    assert registration["generator_sha256"] == lowest["generator_sha256"]
    assert read_json(outputs["best"] / "model.json")["generator_sha256"] == lowest["generator_sha256"]
    pages = [path for path in folder.rglob("*") if path.is_file() and path.name in ("report", "samples")]
    assert len(pages) == 4
    assert all(path.read_text().startswith("<!doctype html>") for path in pages)
    assert outputs["promote"].with_name("gate").read_text().startswith("# tiny version 1: promoted")
    assert outputs["best"].with_name("ranking").read_text().startswith("# The best of 2")

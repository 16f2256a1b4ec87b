"""`ganflow pipeline run`: the whole pipeline for real, each task a process, with the numbers of the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import TINY

CLI = """
prepare {raw} prepared
reference prepared reference
train prepared model
evaluate model reference evaluation
"""


def ganflow(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ganflow in the folder, with its params.yaml and its own embedded MLflow."""
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(TINY))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    command = [sys.executable, "-m", "ganflow", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_scores_are_those_of_the_command_line_and_a_refusal_is_no_failure(raw: Path, tmp_path: Path) -> None:
    for line in CLI.strip().splitlines():
        step = ganflow(tmp_path / "cli", *line.format(raw=raw).split())
        assert step.returncode == 0, step.stderr
    run = ganflow(tmp_path / "kfp", "pipeline", "run", str(raw), "--json", "--set", "promote.max_fid=1.0e-9")
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    outputs = {step: Path(path) for step, path in answer["outputs"].items()}
    scores = tmp_path / "cli" / "evaluation" / "scores.json"
    assert (outputs["evaluate"] / "scores.json").read_bytes() == scores.read_bytes()
    assert answer["decision"]["verdict"] == "refused"
    assert (tmp_path / "kfp" / "mlflow.db").is_file()
    assert all(path.is_relative_to(tmp_path / "kfp" / "run" / "kfp") for path in outputs.values())


@pytest.mark.slow
def test_failed_task_is_one_sentence(tmp_path: Path) -> None:
    run = ganflow(tmp_path, "pipeline", "run", "nowhere")
    assert run.returncode == 1
    assert run.stdout == ""
    assert run.stderr.splitlines()[-1] == "ganflow: the task prepare failed; its last lines above say why"
    assert "ganflow.errors.DataError" in run.stderr

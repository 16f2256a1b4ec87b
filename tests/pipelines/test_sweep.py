"""The sweep: its drawing, its trainings, and the best of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from kfp_api import State
from test_submit import PINNED, _in_the_repository, repository

from ganflow import steps
from ganflow.artifacts import read_json, write_json
from ganflow.cli import main
from ganflow.config import load
from ganflow.errors import ArtifactError, ConfigError
from ganflow.sweep import promotion, trainings
from pipelines.compile import sweep_yaml
from pipelines.ir import read
from pipelines.lint import lint

__all__ = ["_in_the_repository", "repository"]

GOLDEN = ROOT / "tests" / "golden" / "sweep-gpu.yaml"
GRID = "sweep.grid={learning_rate: [0.001, 0.0005], seed: [0, 1]}"


def test_the_graph() -> None:
    places = {place.name: place for place in read(GOLDEN).places()}
    assert set(places) == {
        "prepare", "reference", "for-loop-1", "for-loop-1/train", "for-loop-1/evaluate", "best", "register", "champion",
        "promote",
    }  # fmt: skip
    loop = places["for-loop-1"].task
    assert loop["iteratorPolicy"] == {"parallelismLimit": 2}
    assert loop["parameterIterator"]["items"] == {"inputParameter": "pipelinechannel--trainings"}
    sources = places["register"].task["inputs"]["artifacts"]
    assert {source["taskOutputArtifact"]["producerTask"] for source in sources.values()} == {"best"}
    assert {name for name, place in places.items() if place.container and not place.cached} == {
        "register", "champion", "promote",
    }  # fmt: skip
    assert {finding.rule for finding in lint(read(GOLDEN))} == {"unpinned-image"}
    wide = yaml.safe_load(sweep_yaml("gpu", 7).split("---")[0])
    assert wide["root"]["dag"]["tasks"]["for-loop-1"]["iteratorPolicy"] == {"parallelismLimit": 7}


def test_trainings_on_several_nodes_are_launched() -> None:
    sweep = yaml.safe_load(sweep_yaml("multi-node", 2).split("---")[0])
    assert set(sweep["components"]["comp-for-loop-1"]["dag"]["tasks"]) == {"launch", "evaluate"}
    assert sweep["root"]["dag"]["tasks"]["best"]["dependentTasks"] == ["for-loop-1"]


def test_grid_and_list_together() -> None:
    params = load(ROOT / "params.yaml", [GRID, "sweep.trials=[{width: 64}]"])
    made = [json.loads(text) for text in trainings(params)]
    assert [(one["width"], one["learning_rate"], one["seed"]) for one in made] == [
        (64, 0.001, 0), (32, 0.001, 0), (32, 0.001, 1), (32, 0.0005, 0), (32, 0.0005, 1),
    ]  # fmt: skip
    assert json.loads(promotion(params))["best_of"] == 5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sweep.grid={}", "the sweep has 0 trainings; give sweep.grid or sweep.trials at least two"),
        ("sweep.trials=[{seed: 1}]", "the sweep has 1 trainings"),
        ("sweep.grid={seed: [0, 0]}", "two trainings of the sweep are the same"),
        ("sweep.grid={sed: [0, 1]}", "sed is not a parameter; did you mean seed"),
        ("sweep.grid={width: [32, -1]}", "width is -1"),
        ("sweep.grid=3", "sweep.grid is 3"),
    ],
)
def test_an_impossible_sweep_is_one_sentence(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        trainings(load(ROOT / "params.yaml", [override]))
    assert "\n" not in str(caught.value)


def test_submitting_a_sweep(kfp: State, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", "submit", "raw", *PINNED, "--pipeline", "sweep", "--set", GRID]) == 0
    given = kfp.runs[0].runtime_config.parameters
    assert [json.loads(text)["seed"] for text in given["trainings"]] == [0, 1, 0, 1]
    assert json.loads(given["promote"])["best_of"] == 4
    assert "train" not in given
    assert main(["pipeline", "submit", "raw", *PINNED, "--pipeline", "sweep"]) == 2
    assert "the sweep has 0 trainings" in capsys.readouterr().err


@pytest.fixture
def three(tmp_path: Path) -> tuple[list[str], list[str]]:
    """Folders as three trainings and evaluations leave them, as far as the choice looks; not in the same order."""
    for number, (fid, seed) in enumerate([(9.0, 0), (4.5, 1), (7.0, 2)]):
        digest = str(number) * 64
        model, evaluation = tmp_path / f"model{number}", tmp_path / f"evaluation{number}"
        write_json(
            model / "model.json",
            {"made_by": "ganflow train", "generator_sha256": digest, "parameters": {"seed": seed, "width": 8}},
        )
        (model / "generator.safetensors").write_bytes(digest.encode())
        scores = {"score": "fid_x", "fid_x": fid, "fid_x_se": 0.1, "protocol": {"count": 10}}
        write_json(evaluation / "scores.json", {"made_by": "ganflow evaluate", "generator_sha256": digest, **scores})
        (evaluation / "samples.png").write_bytes(b"png")
    return [str(tmp_path / f"model{n}") for n in (0, 1, 2)], [str(tmp_path / f"evaluation{n}") for n in (2, 0, 1)]


def best(tmp_path: Path, models: list[str], evaluations: list[str]) -> dict[str, Any]:
    outputs = [str(tmp_path / "best" / name) for name in ("model", "evaluation", "ranking.md")]
    steps.best(models, evaluations, *outputs)
    return {"model": Path(outputs[0]), "evaluation": Path(outputs[1]), "page": Path(outputs[2]).read_text()}


def test_the_lowest_score_is_kept_with_its_model(tmp_path: Path, three: tuple[list[str], list[str]]) -> None:
    kept = best(tmp_path, *three)
    assert read_json(kept["model"] / "model.json")["generator_sha256"] == "1" * 64
    assert (kept["model"] / "generator.safetensors").read_bytes() == b"1" * 64
    assert read_json(kept["evaluation"] / "scores.json")["fid_x"] == 4.5
    assert (kept["evaluation"] / "samples.png").exists()
    rows = [line for line in kept["page"].splitlines() if line.startswith("| ")]
    assert rows == ["| fid_x | seed |", "| --- | --- |", "| 4.5 ± 0.1 | 1 |", "| 7 ± 0.1 | 2 |", "| 9 ± 0.1 | 0 |"]


def test_unlike_protocols_are_not_ranked(tmp_path: Path, three: tuple[list[str], list[str]]) -> None:
    path = Path(three[1][1]) / "scores.json"
    write_json(path, read_json(path) | {"protocol": {"count": 11}})
    with pytest.raises(ArtifactError, match="was measured by another protocol .count."):
        best(tmp_path, *three)


def test_scores_without_their_model_are_refused(tmp_path: Path, three: tuple[list[str], list[str]]) -> None:
    shutil.rmtree(three[0][2])
    with pytest.raises(ArtifactError, match="scores a generator that is not among the models"):
        best(tmp_path, three[0][:2], three[1])

"""The Kubeflow pipeline, as compiled: the graph of dvc.yaml and promote, cached where that is right."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components import IMAGE
from ganflow.cli import main
from pipelines.compile import pipeline_yaml

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "training.yaml"


def pipeline_graph(ir: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Of each task: the input artifacts with their producers, the outputs, and the sections of the parameters."""
    graph = {}
    for name, task in ir["root"]["dag"]["tasks"].items():
        sources = task["inputs"].get("artifacts", {})
        parameters = {key: value["componentInputParameter"] for key, value in task["inputs"]["parameters"].items()}
        assert all(key == value for key, value in parameters.items())
        graph[name] = {
            "inputs": {
                key: (source["taskOutputArtifact"]["producerTask"], source["taskOutputArtifact"]["outputArtifactKey"])
                for key, source in sources.items()
            },
            "outputs": set(ir["components"][task["componentRef"]["name"]]["outputDefinitions"]["artifacts"]),
            "sections": set(parameters) - {"raw"},
        }
    return graph


def dvc_graph(stages: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The same of each stage: a path run/NAME… is the artifact NAME."""

    def artifacts(entries: list[Any]) -> set[str]:
        paths = [Path(next(iter(entry)) if isinstance(entry, dict) else entry) for entry in entries]
        return {Path(path.parts[1]).stem for path in paths if path.parts[0] == "run"}

    outputs = {
        name: artifacts([entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])])
        for name, stage in stages.items()
    }
    producer = {artifact: name for name, made in outputs.items() for artifact in made}
    return {
        name: {
            "inputs": {artifact: (producer[artifact], artifact) for artifact in artifacts(stage["deps"])},
            "outputs": outputs[name],
            "sections": set(stage["params"]),
        }
        for name, stage in stages.items()
    }


@pytest.fixture(scope="module")
def ir() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(GOLDEN.read_text())
    return document


def test_graph_is_that_of_dvc_yaml_and_promote(ir: dict[str, Any]) -> None:
    graph = pipeline_graph(ir)
    promote = graph.pop("promote")
    assert graph == dvc_graph(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    assert promote == {
        "inputs": {"registration": ("register", "registration")},
        "outputs": {"decision"},
        "sections": {"promote"},
    }


def test_raw_images_reach_prepare_alone(ir: dict[str, Any]) -> None:
    tasks = ir["root"]["dag"]["tasks"]
    assert [name for name, task in tasks.items() if "raw" in task["inputs"]["parameters"]] == ["prepare"]


def test_only_side_effects_are_not_cached(ir: dict[str, Any]) -> None:
    tasks = ir["root"]["dag"]["tasks"]
    uncached = {name for name, task in tasks.items() if not task["cachingOptions"].get("enableCache", False)}
    assert uncached == {"register", "promote"}


def test_every_parameter_is_a_described_string(ir: dict[str, Any]) -> None:
    parameters = ir["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) == {"raw", "data", "train", "evaluate", "register", "promote"}
    assert {parameter["parameterType"] for parameter in parameters.values()} == {"STRING"}
    assert all(parameter["description"] for parameter in parameters.values())


def test_image_is_one_for_every_step() -> None:
    image = f"example.org/ganflow@sha256:{'0' * 64}"
    assert pipeline_yaml(image) == GOLDEN.read_text().replace(f"image: {IMAGE}\n", f"image: {image}\n")


def test_compile_twice_gives_the_committed_bytes(tmp_path: Path) -> None:
    for name in ("first.yaml", "second.yaml"):
        assert main(["pipeline", "compile", "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "first.yaml").read_bytes() == (tmp_path / "second.yaml").read_bytes() == GOLDEN.read_bytes()


def test_command_line_does_not_import_kfp() -> None:
    code = "import sys; from ganflow.cli import build_parser; build_parser(); sys.exit('kfp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

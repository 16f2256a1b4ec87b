"""What a new version changes, and what will run again for it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ganflow.cli import main
from pipelines.compile import pipeline_yaml
from pipelines.diff import diff
from pipelines.ir import Pipeline

ALWAYS = {"flow/register", "flow/champion", "flow/promote", "summary"}


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(pipeline_yaml("gpu")))


def change(edit: Callable[[dict[str, Any], dict[str, Any]], None]) -> dict[str, tuple[tuple[str, ...], str | None]]:
    """What changed and why it runs again, by task, of those where there is something to say."""
    old, new = documents(), documents()
    edit(new[0], new[1])
    changes = diff(Pipeline(old[0], old[1]), Pipeline(new[0], new[1]))
    found = {one.task: (one.changed, one.again) for one in changes if one.changed or one.again}
    assert set(found) | {one.task for one in changes if one.changed == ("removed",)} >= ALWAYS
    return {task: said for task, said in found.items() if task not in ALWAYS}


def executor(spec: dict[str, Any], name: str) -> dict[str, Any]:
    container: dict[str, Any] = spec["deploymentSpec"]["executors"][f"exec-{name}"]["container"]
    return container


def test_nothing() -> None:
    assert change(lambda spec, platform: None) == {}


def test_an_image_runs_its_task_and_all_after_it_again() -> None:
    found = change(lambda spec, platform: executor(spec, "train").update(image="other"))
    assert found == {
        "flow/train": (("image",), "its cache key changes (image)"),
        "flow/evaluate": ((), "flow/train runs again"),
    }


def test_the_first_task_runs_everything_again() -> None:
    found = change(lambda spec, platform: executor(spec, "prepare").update(args=["x"]))
    assert set(found) == {"flow/prepare", "flow/reference", "flow/train", "flow/evaluate"}
    assert found["flow/train"] == ((), "flow/prepare runs again")


def test_resources_and_secrets_run_nothing_again() -> None:
    def edit(spec: dict[str, Any], platform: dict[str, Any]) -> None:
        executor(spec, "train")["resources"]["resourceMemoryLimit"] = "1Gi"
        executor(spec, "evaluate")["env"].append({"name": "A", "value": "b"})
        platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"]["secretAsEnv"] = []

    assert change(edit) == {
        "flow/train": (("resources", "Kubernetes settings"), None),
        "flow/evaluate": (("environment",), None),
    }


def test_caching_switched_off() -> None:
    def edit(spec: dict[str, Any], platform: dict[str, Any]) -> None:
        spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]["reference"]["cachingOptions"] = {}

    found = change(edit)
    assert found["flow/reference"] == (("caching",), "it is never cached")
    assert found["flow/train"] == ((), "flow/reference runs again")
    assert "flow/prepare" not in found


def test_a_description_is_no_change() -> None:
    def edit(spec: dict[str, Any], platform: dict[str, Any]) -> None:
        spec["components"]["comp-train"]["outputDefinitions"]["artifacts"]["model"]["description"] = "other"

    assert change(edit) == {}


def test_outputs_inputs_and_volumes_are_in_the_key() -> None:
    def edit(spec: dict[str, Any], platform: dict[str, Any]) -> None:
        spec["components"]["comp-evaluate"]["outputDefinitions"]["artifacts"].pop("samples")
        tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
        tasks["reference"]["inputs"]["parameters"]["evaluate"] = {"runtimeValue": {"constant": "{}"}}
        executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
        executors["exec-train"]["pvcMount"] = [{"constant": "disk", "mountPath": "/disk"}]

    found = change(edit)
    assert {task: changed for task, (changed, _) in found.items()} == {
        "flow/reference": ("inputs",),
        "flow/train": ("volumes",),
        "flow/evaluate": ("outputs",),
    }


def test_a_task_comes_and_one_goes() -> None:
    def edit(spec: dict[str, Any], platform: dict[str, Any]) -> None:
        tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
        tasks["polish"] = tasks.pop("train")
        tasks["polish"]["taskInfo"]["name"] = "polish"
        for source in (tasks["evaluate"], tasks["register"]):
            source["inputs"]["artifacts"]["model"]["taskOutputArtifact"]["producerTask"] = "polish"

    found = change(edit)
    assert found["flow/train"] == (("removed",), None)
    assert found["flow/polish"] == (("new",), "it is new")
    assert found["flow/evaluate"] == (("inputs",), "its cache key changes (inputs)")


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(pipeline_yaml("gpu"))
    new.write_text(pipeline_yaml("gpu", None, "other:1"))
    assert main(["pipeline", "diff", str(old), str(new)]) == 0
    said = capsys.readouterr().out
    assert "flow/train      image, environment  runs again: its cache key changes (image)" in said
    assert main(["pipeline", "diff", str(old), str(old), "--json"]) == 0
    changes = {one["task"]: one for one in json.loads(capsys.readouterr().out)}
    assert changes["flow/train"] == {"task": "flow/train", "changed": [], "again": None}
    assert changes["flow/promote"]["again"] == "it is never cached"

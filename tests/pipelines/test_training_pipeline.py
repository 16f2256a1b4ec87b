"""The Kubeflow pipeline as compiled for every profile: the graph of dvc.yaml and promote, cached where it may be."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import shell

from components import IMAGE, SMALL_IMAGE
from ganflow import trainjob
from ganflow.resources import Resources
from pipelines.compile import pipeline_yaml
from pipelines.ir import Pipeline, read, violation
from pipelines.lint import lint

ROOT = Path(__file__).parents[2]
PROFILES = list(Resources().profiles)
SHOWN = {"system.HTML", "system.Markdown", "system.Metrics"}
"""Artifacts for the UI; dvc.yaml has none of them."""


def golden(profile: str) -> Path:
    return ROOT / "tests" / "golden" / f"training-{profile}.yaml"


@pytest.fixture(scope="module", params=PROFILES)
def pipeline(request: pytest.FixtureRequest) -> Pipeline:
    return read(golden(request.param))


@pytest.fixture(scope="module")
def cpu() -> Pipeline:
    return read(golden("cpu"))


def flow(pipeline: Pipeline) -> dict[str, Any]:
    """The tasks that the exit task waits for."""
    tasks: dict[str, Any] = pipeline.spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    return tasks


def pipeline_graph(pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    """Of each task: the input artifacts with their producers, the outputs, and the sections of the parameters."""
    graph = {}
    for name, task in flow(pipeline).items():
        sources = task["inputs"].get("artifacts", {})
        parameters = {key: value["componentInputParameter"] for key, value in task["inputs"]["parameters"].items()}
        assert all(value == f"pipelinechannel--{key}" for key, value in parameters.items())
        outputs = pipeline.spec["components"][task["componentRef"]["name"]]["outputDefinitions"]["artifacts"]
        graph[name] = {
            "inputs": {
                key: (source["taskOutputArtifact"]["producerTask"], source["taskOutputArtifact"]["outputArtifactKey"])
                for key, source in sources.items()
            },
            "outputs": {key for key, spec in outputs.items() if spec["artifactType"]["schemaTitle"] not in SHOWN},
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


def test_graph_is_that_of_dvc_yaml_and_the_gates(cpu: Pipeline) -> None:
    graph = pipeline_graph(cpu)
    champion, promote = graph.pop("champion"), graph.pop("promote")
    assert graph == dvc_graph(yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"])
    assert champion == {
        "inputs": {"evaluation": ("evaluate", "evaluation"), "reference": ("reference", "reference")},
        "outputs": {"measured"},
        "sections": {"register"},
    }
    assert promote == {
        "inputs": {"registration": ("register", "registration"), "champion": ("champion", "measured")},
        "outputs": {"decision"},
        "sections": {"promote"},
    }


def test_raw_images_reach_prepare_alone(cpu: Pipeline) -> None:
    assert [name for name, task in flow(cpu).items() if "raw" in task["inputs"]["parameters"]] == ["prepare"]


def test_only_what_touches_the_registry_is_not_cached(pipeline: Pipeline) -> None:
    uncached = {place.name for place in pipeline.places() if place.container and not place.cached}
    assert uncached == {"flow/champion", "flow/register", "flow/promote", "summary"}


def test_exit_task_is_one_hook_on_the_whole_flow(pipeline: Pipeline) -> None:
    tasks = pipeline.spec["root"]["dag"]["tasks"]
    assert set(tasks) == {"exit-handler-1", "summary"}
    assert tasks["summary"]["dependentTasks"] == ["exit-handler-1"]
    assert tasks["summary"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert not any("triggerPolicy" in task for task in flow(pipeline).values())


def test_every_parameter_is_a_described_string(pipeline: Pipeline) -> None:
    parameters = pipeline.spec["root"]["inputDefinitions"]["parameters"]
    assert set(parameters) == {"raw", "data", "train", "evaluate", "register", "promote"}
    assert {parameter["parameterType"] for parameter in parameters.values()} == {"STRING"}
    assert all(parameter["description"] for parameter in parameters.values())


def test_images_are_two(pipeline: Pipeline) -> None:
    images = {place.path[-1]: place.container["image"] for place in pipeline.places() if place.container}
    small = {name for name, image in images.items() if image == SMALL_IMAGE}
    assert small - {"launch"} == {"register", "promote", "summary"}
    assert set(images.values()) == {IMAGE, SMALL_IMAGE}


def test_accelerators_go_to_the_tasks_that_compute() -> None:
    counts = {}
    for profile in PROFILES:
        resources = {
            place.path[-1]: place.container["resources"] for place in read(golden(profile)).places() if place.container
        }
        counts[profile] = {
            name: (have["accelerator"]["resourceType"], have["accelerator"]["resourceCount"])
            for name, have in resources.items()
            if "accelerator" in have
        }
    gpu = "nvidia.com/gpu"
    assert counts["cpu"] == {}
    one = dict.fromkeys(("reference", "evaluate", "champion"), (gpu, "1"))
    assert counts["gpu"] == {**one, "train": (gpu, "1")}
    assert counts["multi-gpu"] == {**one, "train": (gpu, "4")}
    assert counts["multi-node"] == one, "the nodes have the others"


def test_every_task_has_its_limits_and_secrets_by_reference(pipeline: Pipeline) -> None:
    for place in pipeline.places():
        if place.container is None:
            continue
        resources, kubernetes = place.container["resources"], place.kubernetes
        assert resources["resourceMemoryLimit"] == resources["resourceMemoryRequest"]
        assert resources["resourceCpuLimit"] == resources["resourceCpuRequest"]
        assert int(kubernetes["activeDeadlineSeconds"]) > 0
        assert kubernetes["securityContext"] == {"runAsUser": "1000", "runAsGroup": "1000", "runAsNonRoot": True}
        assert {"ganflow-s3", "ganflow-mlflow"} <= {secret["secretName"] for secret in kubernetes["secretAsEnv"]}
        assert kubernetes["configMapAsEnv"][0]["configMapName"] == "ganflow"
        if not place.is_exit:
            # A retry begins within this window of the first attempt's start, and ends with it.
            assert place.task["retryPolicy"]["backoffMaxDuration"] == "259200s"
            assert place.task["retryPolicy"]["maxRetryCount"] == 3
    config = pipeline.platform["platforms"]["kubernetes"]["pipelineConfig"]
    assert config == {"activeDeadlineSeconds": 259200, "resourceTtlOnCompletion": 604800}


def test_ui_has_pages(cpu: Pipeline) -> None:
    shown = {
        (place.path[-1], name): spec["artifactType"]["schemaTitle"]
        for place in cpu.places()
        for name, spec in place.component.get("outputDefinitions", {}).get("artifacts", {}).items()
        if spec["artifactType"]["schemaTitle"] in SHOWN
    }
    assert shown == {
        ("evaluate", "report"): "system.HTML",
        ("evaluate", "samples"): "system.HTML",
        ("evaluate", "scores"): "system.Metrics",
        ("promote", "gate"): "system.Markdown",
        ("summary", "overview"): "system.Markdown",
    }


def test_golden_files_fulfil_the_schema(pipeline: Pipeline) -> None:
    assert violation(pipeline) is None


@pytest.mark.parametrize("path", sorted(ROOT.glob("components/*/component.yaml")), ids=lambda path: path.parent.name)
def test_compiled_components_fulfil_the_schema(path: Path) -> None:
    assert violation(read(path)) is None


def test_the_schema_is_strict(cpu: Pipeline) -> None:
    spec = yaml.safe_load(yaml.safe_dump(cpu.spec))
    spec["root"]["dag"]["tasks"]["summary"]["retries"] = 3
    assert "retries" in (violation(Pipeline(spec, cpu.platform)) or "")
    platform = yaml.safe_load(yaml.safe_dump(cpu.platform))
    platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]["exec-train"]["graceSeconds"] = 5
    assert "graceSeconds" in (violation(Pipeline(cpu.spec, platform)) or "")


def test_another_image_changes_nothing_else() -> None:
    image, small = (f"example.org/{name}@sha256:{'0' * 64}" for name in ("ganflow", "small"))
    expected = golden("cpu").read_text()
    for old, new in ((SMALL_IMAGE, small), (IMAGE, image)):
        expected = expected.replace(f"image: {old}\n", f"image: {new}\n").replace(f"value: {old}\n", f"value: {new}\n")
    assert yaml_of(pipeline_yaml("cpu", None, image, small)) == yaml_of(expected)


def yaml_of(text: str) -> list[Any]:
    return list(yaml.safe_load_all(text))


@pytest.mark.parametrize("profile", PROFILES)
def test_compile_twice_gives_the_committed_bytes(profile: str, tmp_path: Path) -> None:
    """Two processes, so that no order of a hash table can hide."""
    made = []
    for seed in ("1", "2"):
        out = tmp_path / f"{seed}.yaml"
        shell(
            ROOT, "ganflow", "pipeline", "compile", "--profile", profile, "--allow-tags", "--out", str(out),
            PYTHONHASHSEED=seed,
        )  # fmt: skip
        made.append(out.read_bytes())
    assert made[0] == made[1] == golden(profile).read_bytes(), "run `python -m pipelines.compile`"


def test_a_doctor_comes_first_where_it_is_asked_for() -> None:
    documents = yaml_of(pipeline_yaml("gpu", Resources(doctor=True)))
    asked = Pipeline(documents[0], documents[1])
    tasks = flow(asked)
    assert tasks["prepare"]["dependentTasks"] == ["doctor"]
    assert tasks["doctor"]["cachingOptions"] == {}
    [place] = [place for place in asked.places() if place.path[-1] == "doctor"]
    assert place.accelerators
    assert {finding.rule for finding in lint(asked)} == {"unpinned-image"}
    assert "doctor" not in flow(read(golden("gpu")))
    documents = yaml_of(pipeline_yaml("multi-gpu", Resources(doctor=True)))
    roots = [name for name, task in flow(Pipeline(*documents)).items() if not task.get("dependentTasks")]
    assert roots == ["doctor"], "no shard stands beside it"


@pytest.mark.parametrize("profile", ["cpu", "gpu", "multi-gpu", "multi-node"])
def test_preparing_takes_no_place_of_an_accelerator(profile: str) -> None:
    wanted = Resources().profiles[profile]
    for place in read(golden(profile)).places():
        if place.path[-1].startswith(("prepare", "shard", "merge")):
            assert place.container
            limits = place.container["resources"]
            assert limits["resourceCpuLimit"] == (wanted.prepare_cpu or wanted.cpu)
            assert limits["resourceMemoryLimit"] == (wanted.prepare_memory or wanted.memory)
            assert "emptyDirMounts" not in place.kubernetes


def test_several_nodes_are_launched_by_a_light_task_in_train_s_place() -> None:
    several = Resources().profiles["gpu"].model_copy(update={"nodes": 2})
    documents = yaml_of(pipeline_yaml("gpu", Resources(profiles={"gpu": several})))
    one, nodes = pipeline_graph(read(golden("gpu"))), pipeline_graph(Pipeline(documents[0], documents[1]))
    assert nodes.pop("launch") == one.pop("train")
    for reader in ("evaluate", "register"):
        assert nodes[reader]["inputs"].pop("model") == ("launch", "model")
        assert one[reader]["inputs"].pop("model") == ("train", "model")
    assert nodes == one
    [launcher] = [place for place in read(golden("multi-node")).places() if place.path[-1] == "launch"]
    assert launcher.container
    variables = {variable["name"]: variable["value"] for variable in launcher.container["env"]}
    profile = Resources().profiles["multi-node"]
    assert json.loads(variables["GANFLOW_TRAINJOB"]) == trainjob.spec(Resources(), profile, IMAGE)
    assert int(launcher.kubernetes["activeDeadlineSeconds"]) == profile.timeout_seconds + 3600
    [last] = [place for place in read(golden("multi-node")).places() if place.is_exit]
    assert "POD_NAMESPACE" in {one["name"] for one in last.kubernetes["fieldPathAsEnv"]}, "it ends what is left"
    fields = {one["name"]: one["fieldPath"] for one in launcher.kubernetes["fieldPathAsEnv"]}
    assert {fields[f"POD_{name}"] for name in ("NAME", "UID", "NAMESPACE")} == {
        "metadata.name", "metadata.uid", "metadata.namespace",
    }  # fmt: skip


@pytest.mark.parametrize("profile", ["multi-gpu", "multi-node"])
def test_shards_are_tasks_that_are_merged(profile: str) -> None:
    tasks = flow(read(golden(profile)))
    shards = sorted(name for name in tasks if name.startswith("shard"))
    parts = [tasks[name]["inputs"]["parameters"]["part"]["runtimeValue"]["constant"] for name in shards]
    assert parts == ["0/4", "1/4", "2/4", "3/4"]
    sources = tasks["merge"]["inputs"]["artifacts"]
    order = [sources[name]["taskOutputArtifact"]["producerTask"] for name in ("first", "second", "third", "fourth")]
    assert order == shards
    assert len(sources) == 4
    for reader in ("reference", "launch" if profile == "multi-node" else "train"):
        assert tasks[reader]["inputs"]["artifacts"]["prepared"]["taskOutputArtifact"] == {
            "producerTask": "merge",
            "outputArtifactKey": "prepared",
        }


def test_command_line_does_not_import_kfp() -> None:
    code = "import sys; from ganflow.cli import build_parser; build_parser(); sys.exit('kfp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

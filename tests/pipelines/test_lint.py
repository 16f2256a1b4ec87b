"""Each rule finds what it is for in a pipeline that kfp compiled, and nothing in ours."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import dsl, kubernetes

from ganflow.cli import main
from ganflow.trainjob import TRAINJOB, pod_patch
from pipelines.compile import compiled, pipeline_yaml
from pipelines.ir import Pipeline, read
from pipelines.lint import PIPELINE_RULES, RULES, lint

DIGEST = f"@sha256:{'0' * 64}"
IMAGE = f"r.example/python{DIGEST}"


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def good(text: str) -> str:
    """Good.

    Args:
        text: Any.

    Returns:
        The same.
    """
    return text


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def effect(text: str) -> None:
    """Print.

    Args:
        text: Any.
    """
    print(text)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def farewell(status: dsl.PipelineTaskFinalStatus) -> None:
    """Say good bye.

    Args:
        status: Of the rest.
    """
    print(status)


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def undescribed(text: str) -> str:
    return text


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def of_dict(values: dict) -> str:  # type: ignore[type-arg]
    """Take a dict.

    Args:
        values: Any.

    Returns:
        Text.
    """
    return str(values)


@dsl.component(base_image="python:3.12", install_kfp_package=False)
def unpinned(text: str) -> str:
    """Unpinned.

    Args:
        text: Any.

    Returns:
        The same.
    """
    return text


def of(draw: Callable[[], Any], **more: Any) -> list[tuple[str, str]]:
    """Task and rule of each finding in a pipeline with the parameter `text`."""

    @dsl.pipeline(name="p")
    def p(text: str = "a") -> None:
        """A pipeline.

        Args:
            text: Any.
        """
        draw(text)  # type: ignore[call-arg]

    return [(finding.task, finding.rule) for finding in lint(parsed(compiled(p)))]


def parsed(text: str) -> Pipeline:
    documents = list(yaml.safe_load_all(text))
    return Pipeline(documents[0], documents[1] if len(documents) > 1 else {})


def gpu(task: Any, *but: str) -> Any:
    """A task with an accelerator and all that it needs, but for some."""
    task.set_accelerator_type("nvidia.com/gpu").set_accelerator_limit(1)
    if "toleration" not in but:
        kubernetes.add_toleration(task, key="nvidia.com/gpu", operator="Exists")
    if "shm" not in but:
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory")
    if "timeout" not in but:
        kubernetes.set_timeout(task, 3000)
    if "retry" not in but:
        task.set_retry(2)
    return task


@pytest.mark.parametrize("profile", ["cpu", "gpu", "multi-gpu", "multi-node"])
def test_ours_are_clean(profile: str) -> None:
    assert lint(parsed(pipeline_yaml(profile, None, IMAGE, IMAGE))) == []


def test_a_good_one_is_clean() -> None:
    assert of(lambda text: gpu(good(text=text))) == []  # type: ignore[misc]


def test_a_parameter_as_a_resource_within_a_group_dangles() -> None:
    """kfp's compiler leaves it without an input; the backend then fails."""

    def draw(text: str) -> None:
        with dsl.If(text == "a"):
            good(text="b").set_memory_limit(text)

    assert of(draw) == [("condition-1/good", "dangling-reference")]


def test_a_dangling_input_is_found() -> None:
    pipeline = parsed(pipeline_yaml("cpu", None, IMAGE, IMAGE))
    tasks = pipeline.spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    tasks["train"]["inputs"]["parameters"]["train"] = {"componentInputParameter": "pipelinechannel--nowhere"}
    tasks["evaluate"]["inputs"]["artifacts"]["model"]["taskOutputArtifact"]["producerTask"] = "trian"
    found = lint(pipeline)
    assert [(finding.task, finding.rule) for finding in found] == [
        ("flow/evaluate", "dangling-reference"),
        ("flow/train", "dangling-reference"),
    ]
    assert "the task trian, which is not in the same graph" in found[0].said


def test_a_parameter_in_an_environment_variable_stays_a_channel() -> None:
    found = of(lambda text: good(text="b").set_env_variable("WHERE", f"s3://bucket/{text}"))  # type: ignore[misc]
    assert ("good", "channel-literal") in found


def test_an_image_by_tag() -> None:
    assert of(lambda text: unpinned(text=text)) == [("unpinned", "unpinned-image")]  # type: ignore[misc]


def test_a_cached_exit_task() -> None:
    def draw(text: str) -> None:
        with dsl.ExitHandler(farewell()):
            good(text=text)

    assert of(draw) == [("farewell", "cached-exit-task")]


def test_a_cached_side_effect_by_its_outputs_or_its_name() -> None:
    assert of(lambda text: effect(text=text)) == [("effect", "cached-side-effect")]  # type: ignore[misc]
    assert of(lambda text: effect(text=text).set_caching_options(False)) == []  # type: ignore[misc]
    named = of(lambda text: good(text=text).set_display_name("deploy-model"))  # type: ignore[misc]
    assert named == [("deploy-model", "cached-side-effect")]


def test_a_loop_in_an_exit_handler() -> None:
    def draw(text: str) -> None:
        with dsl.ExitHandler(farewell().set_caching_options(False)), dsl.ParallelFor(["a", "b"]) as item:
            good(text=item)

    assert [rule for _, rule in of(draw)] == ["loop-in-exit-handler"]

    def outside(text: str) -> None:
        with dsl.ParallelFor(["a", "b"]) as item:
            good(text=item)

    assert of(outside) == []


@pytest.mark.parametrize("lack", ["toleration", "shm", "timeout", "retry"])
def test_a_gpu_task_that_lacks_something(lack: str) -> None:
    assert of(lambda text: gpu(good(text=text), lack)) == [("good", "accelerator")]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda job: job["trainer"].update(image="ganflow:1"), "the image ganflow:1 of its nodes is not named by"),
        (lambda job: pod_patch(job).pop("tolerations"), "its nodes have accelerators and no toleration"),
        (lambda job: pod_patch(job).update(volumes=[]), "its nodes have 64 MiB of /dev/shm"),
        (lambda job: job.pop("activeDeadlineSeconds"), "its nodes have no time limit"),
        (lambda job: job.update(activeDeadlineSeconds=99999), "it may run for 90000 s and its nodes for 99999 s"),
    ],
)
def test_nodes_that_a_launcher_starts_and_that_lack_something(change: Callable[[Any], Any], said: str) -> None:
    pipeline = parsed(pipeline_yaml("multi-node", None, IMAGE, IMAGE))
    variables = pipeline.executors()["exec-launch"]["container"]["env"]
    [variable] = [one for one in variables if one["name"] == TRAINJOB]
    change(job := json.loads(variable["value"]))
    variable["value"] = json.dumps(job)
    [finding] = lint(pipeline)
    assert (finding.task, finding.rule) == ("flow/launch", "launched-nodes")
    assert finding.said.startswith(said)


def test_a_retry_that_comes_too_late() -> None:
    def draw(text: str) -> None:
        kubernetes.set_timeout(good(text=text).set_retry(3), 86400)

    assert of(draw) == [("good", "retry-window")]

    def wide(text: str) -> None:
        kubernetes.set_timeout(good(text=text).set_retry(3, backoff_max_duration="86400s"), 86400)

    assert of(wide) == []


def test_retry_factor() -> None:
    def draw(text: str) -> None:
        good(text=text).set_retry(3, backoff_factor=1.5)

    assert of(draw) == [("good", "retry-factor")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DB_PASSWORD", "hunter2"),
        ("WHERE", "postgresql://me:hunter2@db/x"),
        ("ID", "AKIAIOSFODNN7EXAMPLE"),
        ("PEM", "-----BEGIN RSA PRIVATE KEY-----"),
        ("GIT", "ghp_" + "a" * 36),
        ("HOOK", "https://hooks.slack.com/services/T000/B000/XXX"),
        ("JWT", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.abc"),
        ("HUB", "hf_" + "a" * 34),
    ],
)
def test_a_secret_in_a_literal(name: str, value: str) -> None:
    found = of(lambda text: good(text=text).set_env_variable(name, value))  # type: ignore[misc]
    assert found == [("good", "secret")]
    if name != "DB_PASSWORD":
        assert of(lambda text: good(text=value)) == [("good", "secret")]  # type: ignore[misc]


def test_a_secret_as_the_default_of_a_parameter() -> None:
    @dsl.pipeline(name="p", description="A pipeline.")
    def p(api_key: str = "abc") -> None:
        """P.

        Args:
            api_key: Any.
        """
        good(text="a")

    assert [(finding.task, finding.rule) for finding in lint(parsed(compiled(p)))] == [("pipeline", "secret")]


def test_missing_descriptions() -> None:
    @dsl.pipeline(name="p")
    def p(text: str) -> None:
        undescribed(text=text)

    found = [(finding.task, finding.said.split(" has no")[0]) for finding in lint(parsed(compiled(p)))]
    assert found == [
        ("pipeline", "the input text (parameter)"),
        ("pipeline", "the pipeline"),
        ("undescribed", "the input text (parameter)"),
    ]


def test_dict_parameters() -> None:
    @dsl.pipeline(name="p")
    def p(values: dict) -> None:  # type: ignore[type-arg]
        """P.

        Args:
            values: Any.
        """
        of_dict(values=values)

    found = [(finding.task, finding.rule) for finding in lint(parsed(compiled(p)))]
    assert found == [("of-dict", "dict-parameter"), ("pipeline", "dict-parameter")]


def test_every_rule_has_a_failing_example_here() -> None:
    text = Path(__file__).read_text()
    assert [rule for rule in {**RULES, **PIPELINE_RULES} if f'"{rule}"' not in text and rule != "description"] == []


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ours.yaml"
    file.write_text(pipeline_yaml("cpu", None, IMAGE, IMAGE))
    assert main(["pipeline", "lint", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: nothing to mend\n"
    file.write_text(pipeline_yaml("cpu"))
    assert main(["pipeline", "lint", str(file), "--json"]) == 1
    assert {finding["rule"] for finding in json.loads(capsys.readouterr().out)} == {"unpinned-image"}
    assert main(["pipeline", "lint", str(file), "--ignore", "unpinned-image"]) == 0
    assert main(["pipeline", "lint", str(file), "--ignore", "unpined"]) == 2
    assert "there is no rule unpined" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "is not YAML"),
        ("a: 1", "is not a compiled pipeline: it has no `root`"),
        ("", "is not a compiled pipeline"),
        ("root: {dag: {tusks: {}}}", "breaks KFP's schema"),
        ("root: 3", "breaks KFP's schema"),
    ],
)
def test_a_file_that_is_no_pipeline(
    content: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(content)
    assert main(["pipeline", "lint", str(file)]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert main(["pipeline", "lint", str(tmp_path / "none.yaml")]) == 2


def test_a_file_with_two_documents_is_read(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(pipeline_yaml("gpu"))
    assert any(place.kubernetes for place in read(file).places())

"""KFP's intermediate representation, anybody's: read, checked against KFP's own schema, and walked task by task."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2 as kubernetes_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from ganflow.errors import ConfigError

COMPLETED = "ALL_UPSTREAM_TASKS_COMPLETED"
Tree = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """A task in the pipeline, with all that the file says about it."""

    path: tuple[str, ...]
    """Names from the outermost task to this one."""
    task: Tree
    component: Tree
    siblings: dict[str, Tree]
    """The tasks of the same graph, itself among them."""
    around: Tree
    """The component that holds the graph."""
    container: Tree | None
    kubernetes: Tree
    loops_within_exit: bool
    """Whether it is a loop, and an exit handler stands around it."""

    @property
    def name(self) -> str:
        """For people: flow/train, without the numbers of groups."""
        return "/".join(self.path)

    @property
    def is_exit(self) -> bool:
        """Whether it runs however the tasks before it ended."""
        strategy: str | None = self.task.get("triggerPolicy", {}).get("strategy")
        return strategy == COMPLETED

    @property
    def cached(self) -> bool:
        """Whether its outputs may come from an earlier run."""
        return bool(self.task.get("cachingOptions", {}).get("enableCache", False))

    @property
    def accelerators(self) -> bool:
        """Whether it asks for any."""
        return "accelerator" in (self.container or {}).get("resources", {})


@dataclass(frozen=True)
class Pipeline:
    """A compiled pipeline."""

    spec: Tree
    platform: Tree

    def places(self) -> Iterator[Place]:
        """Every task, outer ones before inner ones."""
        yield from self._walk(self.spec["root"], (), False)

    def executors(self) -> dict[str, Tree]:
        """What runs, by label."""
        found: dict[str, Tree] = self.spec.get("deploymentSpec", {}).get("executors", {})
        return found

    def _walk(self, around: Tree, path: tuple[str, ...], within_exit: bool) -> Iterator[Place]:
        tasks = around.get("dag", {}).get("tasks", {})
        handled = {name for task in tasks.values() if _is_exit(task) for name in task.get("dependentTasks", [])}
        for name, task in tasks.items():
            component = self.spec["components"].get(task["componentRef"]["name"], {})
            label = component.get("executorLabel")
            shown = (*path, shown_name(tasks, name))
            yield Place(
                path=shown,
                task=task,
                component=component,
                siblings=tasks,
                around=around,
                container=self.executors().get(label, {}).get("container"),
                kubernetes=self._kubernetes().get(label, {}),
                loops_within_exit=within_exit and "parameterIterator" in task,
            )
            yield from self._walk(component, shown, within_exit or name in handled)

    def _kubernetes(self) -> dict[str, Tree]:
        deployment = self.platform.get("platforms", {}).get("kubernetes", {}).get("deploymentSpec", {})
        found: dict[str, Tree] = deployment.get("executors", {})
        return found


def read(path: Path) -> Pipeline:
    """A compiled pipeline. Raises ConfigError when the file is not one, or breaks KFP's schema."""
    try:
        documents = list(yaml.safe_load_all(path.read_bytes()))
    except OSError as error:
        raise ConfigError(f"cannot read {path} ({error.strerror}); name a compiled pipeline") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML ({' '.join(str(error).split())}); compile it anew") from error
    if not documents or not isinstance(documents[0], dict) or "root" not in documents[0]:
        raise ConfigError(f"{path} is not a compiled pipeline: it has no `root`; `kfp dsl compile` writes one")
    pipeline = Pipeline(documents[0], documents[1] if len(documents) > 1 else {})
    if broken := violation(pipeline):
        raise ConfigError(f"{path} breaks KFP's schema ({broken}); compile it anew")
    return pipeline


def violation(pipeline: Pipeline) -> str | None:
    """How the file breaks KFP's schema, unknown fields included; None when it does not."""
    try:
        json_format.ParseDict(pipeline.spec, pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(pipeline.spec.get("deploymentSpec", {}), pipeline_spec_pb2.PipelineDeploymentConfig())
        json_format.ParseDict(pipeline.platform, pipeline_spec_pb2.PlatformSpec())
        for config in pipeline._kubernetes().values():
            json_format.ParseDict(config, kubernetes_pb2.KubernetesExecutorConfig())
    except json_format.ParseError as error:
        return " ".join(str(error).split())
    return None


def shown_name(tasks: dict[str, Tree], name: str) -> str:
    """The name that people gave to a task, if no other in the graph has it."""
    names = [task.get("taskInfo", {}).get("name", key) for key, task in tasks.items()]
    given: str = tasks[name].get("taskInfo", {}).get("name", name)
    return given if names.count(given) == 1 else name


def _is_exit(task: Tree) -> bool:
    return bool(task.get("triggerPolicy", {}).get("strategy") == COMPLETED)

"""What goes wrong on a cluster and not before, found in the compiled file: anybody's, not only ours.

A rule is a function of a task (or of the whole pipeline) that yields sentences; its name is in the finding.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ganflow.trainjob import TRAINJOB, pod_patch
from pipelines.ir import Pipeline, Place, Tree

PLACEHOLDER = re.compile(r"\{\{\$\.inputs\.(parameters|artifacts)\[(?:'|\\?\")([^'\"\\]+)")
CHANNEL = re.compile(r"\{\{channel:task=[^}]*\}\}")
SECRETS = (
    ("an AWS access key", re.compile(r"\bA(?:KIA|SIA)[0-9A-Z]{16}\b")),
    ("a private key", re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("a password in a URL", re.compile(r"\b[a-z][a-z0-9+.-]*://[^/\s:@{}]+:[^/\s:@{}]+@")),
    ("a GitHub token", re.compile(r"\bgh[pousr]_[A-Za-z0-9]{36,}\b")),
    ("a Slack token or webhook", re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/T")),
    ("a Hugging Face token", re.compile(r"\bhf_[A-Za-z0-9]{30,}\b")),
    ("a JSON web token", re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.")),
)
SECRET_NAME = re.compile(r"passw(or)?d|secret|token|credential|api_?key|access_?key|private_?key", re.IGNORECASE)
SIDE_EFFECT = re.compile(r"\b(register|promote|deploy|publish|upload|push|notify|send|delete|email|webhook)\b")


@dataclass(frozen=True, order=True)
class Finding:
    """Something to mend."""

    task: str
    rule: str
    said: str

    def __str__(self) -> str:
        return f"{self.task}: {self.said} [{self.rule}]"


def lint(pipeline: Pipeline) -> list[Finding]:
    """Everything that the rules find, by task."""
    found = {Finding("pipeline", rule, said) for rule, check in PIPELINE_RULES.items() for said in check(pipeline)}
    for place in pipeline.places():
        found |= {Finding(place.name, rule, said) for rule, check in RULES.items() for said in check(place)}
    return sorted(found)


def dangling_references(place: Place) -> Iterator[str]:
    """Inputs and placeholders that name what is not there; kfp compiles a parameter in a resource limit so."""
    around = place.around.get("inputDefinitions", {})
    inputs = place.task.get("inputs", {})
    for kind, key in (("parameters", "componentInputParameter"), ("artifacts", "componentInputArtifact")):
        for name, source in inputs.get(kind, {}).items():
            if key in source and source[key] not in around.get(kind, {}):
                yield f"the input {name} comes from {source[key]}, which the graph around it does not have"
            yield from _missing_producer(place, name, source)
    iterated = place.task.get("parameterIterator", {}).get("items", {}).get("inputParameter")
    if iterated and iterated not in inputs.get("parameters", {}):
        yield f"it iterates over {iterated}, which is not among its inputs"
    own = place.component.get("inputDefinitions", {})
    for text in _texts([place.container or {}, place.kubernetes]):
        for kind, name in PLACEHOLDER.findall(text):
            if name not in own.get(kind, {}):
                yield f"the placeholder of {name} has no such input; use a literal, or an input of the component"
    for name in _kubernetes_inputs(place.kubernetes):
        if name not in around.get("parameters", {}) and name not in own.get("parameters", {}):
            yield f"its Kubernetes settings take {name}, which is no input; use a literal"


def channel_literals(place: Place) -> Iterator[str]:
    """A pipeline parameter put into a string that is not resolved: an environment variable, a label."""
    for text in _texts([place.container or {}, place.kubernetes, place.task.get("retryPolicy", {})]):
        for channel in CHANNEL.findall(text):
            yield f"{channel} reaches the pod as this text; use a literal, or make it an input of the component"


def unpinned_images(place: Place) -> Iterator[str]:
    """A tag can move; the cache key has the tag, and not what it named."""
    image = (place.container or {}).get("image")
    if image and "@sha256:" not in image and "{{" not in image:
        yield f"the image {image} is not named by its digest; name it as NAME@sha256:…"


def cached_exit_tasks(place: Place) -> Iterator[str]:
    """A cached exit task silently does not run."""
    if place.is_exit and place.cached:
        yield "an exit task is cached, so that it does not run; call set_caching_options(False)"


def cached_side_effects(place: Place) -> Iterator[str]:
    """A task without outputs, or named after a deed, is there for what it does."""
    if place.container is None or not place.cached or place.is_exit:
        return
    outputs = place.component.get("outputDefinitions", {})
    if not (outputs.get("artifacts") or outputs.get("parameters")):
        yield "it is cached and has no outputs: it is there for a side effect, which a cached task does not have"
    elif SIDE_EFFECT.search(re.sub(r"[-_]", " ", place.path[-1])):
        yield "it is cached, and by its name has a side effect; call set_caching_options(False)"


def loops_in_exit_handlers(place: Place) -> Iterator[str]:
    """kubeflow/pipelines#12390."""
    if place.loops_within_exit:
        yield "a ParallelFor within an ExitHandler fails on KFP's backend; put it before the handler, or unroll it"


def accelerators(place: Place) -> Iterator[str]:
    """What a task with accelerators needs besides."""
    if not place.accelerators:
        return
    if not place.kubernetes.get("tolerations"):
        yield "it has an accelerator and no toleration: nodes with accelerators are tainted as a rule"
    mounts = place.kubernetes.get("emptyDirMounts", [])
    shared = any(mount.get("mountPath") == "/dev/shm" and mount.get("medium") == "Memory" for mount in mounts)
    if not shared and "enabledSharedMemory" not in place.kubernetes:
        yield "it has an accelerator and 64 MiB of /dev/shm; mount an emptyDir of medium Memory there"
    if "activeDeadlineSeconds" not in place.kubernetes:
        yield "it has an accelerator and no time limit; call kubernetes.set_timeout"
    if not int(place.task.get("retryPolicy", {}).get("maxRetryCount", 0)):
        yield "it has an accelerator and no retry, and such nodes are preempted; call set_retry"


def launched_nodes(place: Place) -> Iterator[str]:
    """The same of the nodes of a TrainJob, which a launcher of ours makes of an environment variable."""
    variables = {variable["name"]: variable.get("value") for variable in (place.container or {}).get("env", [])}
    if TRAINJOB not in variables:
        return
    job = json.loads(variables[TRAINJOB])
    pod, trainer = pod_patch(job), job["trainer"]
    if "@sha256:" not in trainer["image"]:
        yield f"the image {trainer['image']} of its nodes is not named by its digest; name it as NAME@sha256:…"
    if any("/" in resource for resource in trainer["resourcesPerNode"]["limits"]) and not pod.get("tolerations"):
        yield "its nodes have accelerators and no toleration: nodes with accelerators are tainted as a rule"
    memory = {volume["name"] for volume in pod.get("volumes", []) if volume.get("emptyDir", {}).get("medium")}
    mounts = [mount for container in pod.get("containers", []) for mount in container.get("volumeMounts", [])]
    if not any(mount["mountPath"] == "/dev/shm" and mount["name"] in memory for mount in mounts):
        yield "its nodes have 64 MiB of /dev/shm; mount an emptyDir of medium Memory there"
    limit, own = job.get("activeDeadlineSeconds"), int(place.kubernetes.get("activeDeadlineSeconds", 0))
    if not limit:
        yield "its nodes have no time limit; set activeDeadlineSeconds"
    elif own and own <= limit:
        yield f"it may run for {own} s and its nodes for {limit} s; give it more: it begins before them and ends after"


def retry_windows(place: Place) -> Iterator[str]:
    """Argo counts the window from the first attempt's start, and kfp's default is an hour."""
    policy = place.task.get("retryPolicy", {})
    limit = int(place.kubernetes.get("activeDeadlineSeconds", 0))
    window = float(policy.get("backoffMaxDuration", "0s").removesuffix("s"))
    if policy.get("maxRetryCount") and window < limit:
        yield (
            f"it may run for {limit} s and is retried only within {window:g} s of its first start; give set_retry a "
            "backoff_max_duration of more"
        )


def retry_factors(place: Place) -> Iterator[str]:
    """Argo reads the factor as a whole number, and ends a task in error at its first failure where it is none."""
    factor = float(place.task.get("retryPolicy", {}).get("backoffFactor", 1))
    if factor != int(factor):
        yield f"its backoff factor is {factor:g}, where Argo takes whole numbers only; give set_retry a whole one"


def secrets(place: Place) -> Iterator[str]:
    """Secrets belong into Kubernetes secrets: the compiled file is kept and shown to everybody."""
    container = place.container or {}
    constants = {
        name: source["runtimeValue"].get("constant")
        for name, source in place.task.get("inputs", {}).get("parameters", {}).items()
        if "runtimeValue" in source
    }
    named = {variable["name"]: variable.get("value") for variable in container.get("env", [])} | constants
    named |= _defaults(place.component)
    yield from _named_secrets(named)
    for text in _texts([container.get("command", []), container.get("args", []), list(named.values())]):
        yield from (f"a literal has {what}; use a Kubernetes secret" for what, seen in SECRETS if seen.search(text))


def pipeline_secrets(pipeline: Pipeline) -> Iterator[str]:
    """The same among the defaults of the pipeline's own parameters."""
    defaults = _defaults(pipeline.spec["root"])
    yield from _named_secrets(defaults)
    for text in _texts(list(defaults.values())):
        yield from (f"a default has {what}; use a Kubernetes secret" for what, seen in SECRETS if seen.search(text))


def descriptions(place: Place) -> Iterator[str]:
    """Of what a component takes and gives; groups have none."""
    if place.container is not None:
        yield from _undescribed(place.component)


def pipeline_descriptions(pipeline: Pipeline) -> Iterator[str]:
    """Of the pipeline and its parameters."""
    if not pipeline.spec.get("pipelineInfo", {}).get("description"):
        yield "the pipeline has no description; write a docstring"
    yield from _undescribed(pipeline.spec["root"])


def dict_parameters(place: Place) -> Iterator[str]:
    """JSON through a protobuf Struct: 3 becomes 3.0."""
    if place.container is not None:
        yield from _structs(place.component)


def pipeline_dict_parameters(pipeline: Pipeline) -> Iterator[str]:
    """The same among the pipeline's own."""
    yield from _structs(pipeline.spec["root"])


RULES: dict[str, Callable[[Place], Iterable[str]]] = {
    "dangling-reference": dangling_references,
    "channel-literal": channel_literals,
    "unpinned-image": unpinned_images,
    "cached-exit-task": cached_exit_tasks,
    "cached-side-effect": cached_side_effects,
    "loop-in-exit-handler": loops_in_exit_handlers,
    "accelerator": accelerators,
    "launched-nodes": launched_nodes,
    "retry-window": retry_windows,
    "retry-factor": retry_factors,
    "secret": secrets,
    "description": descriptions,
    "dict-parameter": dict_parameters,
}
PIPELINE_RULES: dict[str, Callable[[Pipeline], Iterable[str]]] = {
    "secret": pipeline_secrets,
    "description": pipeline_descriptions,
    "dict-parameter": pipeline_dict_parameters,
}


def _missing_producer(place: Place, name: str, source: Tree) -> Iterator[str]:
    for key in ("taskOutputParameter", "taskOutputArtifact"):
        if key in source and source[key]["producerTask"] not in place.siblings:
            yield f"the input {name} comes from the task {source[key]['producerTask']}, which is not in the same graph"


def _kubernetes_inputs(config: Any) -> Iterator[str]:
    if isinstance(config, dict):
        if "componentInputParameter" in config:
            yield config["componentInputParameter"]
        for value in config.values():
            yield from _kubernetes_inputs(value)
    elif isinstance(config, list):
        for value in config:
            yield from _kubernetes_inputs(value)


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from _texts(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _texts(value)


def _defaults(component: Tree) -> dict[str, Any]:
    parameters = component.get("inputDefinitions", {}).get("parameters", {})
    return {name: spec["defaultValue"] for name, spec in parameters.items() if "defaultValue" in spec}


def _named_secrets(named: dict[str, Any]) -> Iterator[str]:
    for name, value in named.items():
        text = value if isinstance(value, str) else json.dumps(value)
        if SECRET_NAME.search(name) and isinstance(value, str) and value and "{{" not in text:
            yield f"{name} is a literal; use a Kubernetes secret"


def _undescribed(component: Tree) -> Iterator[str]:
    """What a function returns, by kfp's name Output, and a status have no place for one."""
    for way in ("input", "output"):
        for kind, items in component.get(f"{way}Definitions", {}).items():
            for name, spec in items.items():
                placeless = name == "Output" or spec.get("parameterType") == "TASK_FINAL_STATUS"
                if not (spec.get("description") or placeless):
                    yield f"the {way} {name} ({kind.removesuffix('s')}) has no description; write it into the docstring"


def _structs(component: Tree) -> Iterator[str]:
    for name, spec in component.get("inputDefinitions", {}).get("parameters", {}).items():
        if spec.get("parameterType") == "STRUCT":
            yield f"the parameter {name} is a dict, which turns 3 into 3.0; pass JSON text"

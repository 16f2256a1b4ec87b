"""What a pod asks the Kubeflow Pipelines API: the tasks of its own run. Plain HTTP, since kfp is not in every image.

KFP 2.17 tells the nodes of the Argo workflow, and of a node its name without the groups it is in, and the ids of its
children. A task `train` is a group of that name with the child `executor`, which has a child for each attempt,
`executor(0)`, `executor(1)`; without retries `executor` is the pod.
"""

import json
import os
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ENDPOINT = "http://ml-pipeline.kubeflow:8888"
"""Of the API within the cluster, where KF_PIPELINES_ENDPOINT does not say."""
TOKEN = "/var/run/secrets/kubeflow/pipelines/token"
"""Where the pod's token is, in Kubeflow for many users, and KF_PIPELINES_SA_TOKEN_PATH does not say."""
TIMEOUT_SECONDS = 30
EXIT_TASK = "summary"
"""The one task that has no retries where the others have them; it never comes from the cache."""


@dataclass(frozen=True)
class Task:
    """A task of a run."""

    name: str
    state: str
    """As the API has it: PENDING, RUNNING, SUCCEEDED, SKIPPED, FAILED, CANCELING, CANCELED, or unspecified."""
    started: str | None
    ended: str | None
    error: str | None
    cached: bool
    """Whether its outputs came from the cache; without retries False where the nodes do not tell."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def tasks_of(run: str) -> list[Task]:
    """The tasks of a run, in the order of their beginning. Raises OSError when the API does not answer as it should."""
    endpoint = os.environ.get("KF_PIPELINES_ENDPOINT", ENDPOINT).rstrip("/")
    request = urllib.request.Request(f"{endpoint}/apis/v2beta1/runs/{run}", headers=_headers())
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        return own_tasks(json.load(answer).get("run_details", {}).get("task_details", []))


def own_tasks(details: list[dict[str, Any]]) -> list[Task]:
    """The tasks that the pipeline names, from the API's task details: Kubeflow's own nodes are left out."""
    cached = _cached(details)
    tasks = [
        Task(
            name=detail["display_name"],
            state=detail.get("state", "PENDING"),
            started=_time(detail.get("start_time")),
            ended=_time(detail.get("end_time")),
            error=detail.get("error", {}).get("message"),
            cached=detail in cached,
        )
        for detail in _own(details)
    ]
    return sorted(tasks, key=lambda task: (task.started or "~", task.name))


def pods(details: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Name of the task, and of the pod, of each attempt of each task that was run; the drivers' are left out."""
    known, cached = _ids(details), _cached(details)
    for detail in _own(details):
        for executor in _children(detail):
            if attempts := _attempts(executor, known):
                yield from ((detail["display_name"], _pod(one, "retry-system-container-impl")) for one in attempts)
            elif detail not in cached:
                yield detail["display_name"], _pod(executor, "system-container-impl")


def _own(details: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without drivers, groups, attempts, and the node of the workflow itself, whose name all ids begin with."""
    workflows = {one.rpartition("-")[0] for one in _ids(details)}
    if not workflows and len(details) == 1:
        return []  # a workflow begins with its own node
    names = [(detail.get("display_name", ""), detail) for detail in details]
    return [detail for name, detail in names if name not in workflows and not _internal(name)]


def _internal(name: str) -> bool:
    """Whether a node's name is one that Kubeflow itself gives: a driver's, a group's, an attempt's."""
    return (
        name in ("", "root", "executor", "entrypoint")
        or name.endswith(("-driver", ")"))
        or name.startswith(("exit-handler-", "for-loop-", "condition-", "iteration-", "exit-hook-"))
        or "." in name
    )


def _cached(details: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The tasks whose executor was skipped, since the driver found their outputs in the cache.

    A skipped executor does not say whose it is, but no attempt was made for it: as many tasks that succeeded without
    one as there are skipped executors are just these.
    """
    known = _ids(details)
    skipped = sum(detail.get("display_name") == "executor" and detail.get("state") == "SKIPPED" for detail in details)
    untried = [
        detail
        for detail in _own(details)
        if detail.get("state") == "SUCCEEDED"
        and detail["display_name"] != EXIT_TASK
        and not any(_attempts(executor, known) for executor in _children(detail))
    ]
    return untried if len(untried) <= skipped else []


def _attempts(executor: str, known: set[str]) -> list[str]:
    """Ids of the nodes of a node's attempts, in their order.

    An id is WORKFLOW-HASH, by FNV-1a of the node's full name; an attempt's name is the node's with (NUMBER) behind it,
    and this hash can go on from where it stands.
    """
    workflow, _, digest = executor.rpartition("-")
    found: list[str] = []
    while digest.isdecimal():
        value = int(digest)
        for byte in f"({len(found)})".encode():
            value = (value ^ byte) * 0x01000193 % 2**32
        if f"{workflow}-{value}" not in known:
            break
        found.append(f"{workflow}-{value}")
    return found


def _pod(node: str, template: str) -> str:
    """Argo's name of a node's pod."""
    workflow, _, digest = node.rpartition("-")
    return f"{workflow}-{template}-{digest}"


def _ids(details: list[dict[str, Any]]) -> set[str]:
    return {child for detail in details for child in _children(detail)}


def _children(detail: dict[str, Any]) -> list[str]:
    return [child["pod_name"] for child in detail.get("child_tasks", []) if child.get("pod_name")]


def _time(text: str | None) -> str | None:
    """None for the times that mean that there is none yet: Go's zero time, of the year 1, and Unix's."""
    return text if text and text >= "1971" else None


def link(run: str) -> str | None:
    """Address of the run in the UI, where KF_PIPELINES_UI_ENDPOINT names it."""
    place = os.environ.get("KF_PIPELINES_UI_ENDPOINT")
    return f"{place.rstrip('/')}/#/runs/details/{run}" if place else None


def _headers() -> dict[str, str]:
    token = Path(os.environ.get("KF_PIPELINES_SA_TOKEN_PATH", TOKEN))
    return {"Authorization": f"Bearer {token.read_text().strip()}"} if token.is_file() else {}

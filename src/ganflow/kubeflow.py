"""What a pod asks the Kubeflow Pipelines API: the tasks of its own run. Plain HTTP, since kfp is not in every image."""

import json
import os
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ENDPOINT = "http://ml-pipeline.kubeflow:8888"
"""Of the API within the cluster, where KF_PIPELINES_ENDPOINT does not say."""
TOKEN = "/var/run/secrets/kubeflow/pipelines/token"
"""Where the pod's token is, in Kubeflow for many users, and KF_PIPELINES_SA_TOKEN_PATH does not say."""
TIMEOUT_SECONDS = 30


@dataclass(frozen=True)
class Task:
    """A task of a run."""

    name: str
    state: str
    """As the API has it: PENDING, RUNNING, SUCCEEDED, SKIPPED, FAILED, CANCELING, CANCELED."""
    started: str | None
    ended: str | None
    error: str | None

    @property
    def cached(self) -> bool:
        """Our pipelines have no conditions: a task is skipped only when its outputs came from the cache."""
        return self.state == "SKIPPED"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"cached": self.cached}


def tasks_of(run: str) -> list[Task]:
    """The tasks of a run, in the order of their beginning. Raises OSError when the API does not answer as it should."""
    endpoint = os.environ.get("KF_PIPELINES_ENDPOINT", ENDPOINT).rstrip("/")
    request = urllib.request.Request(f"{endpoint}/apis/v2beta1/runs/{run}", headers=_headers())
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
        return own_tasks(json.load(answer).get("run_details", {}).get("task_details", []))


def own_tasks(details: list[dict[str, Any]]) -> list[Task]:
    """The tasks that the pipeline names, from the API's task details: drivers, groups and pods are left out."""
    tasks = [
        Task(
            name=detail["display_name"],
            state=detail.get("state", "PENDING"),
            started=detail.get("start_time"),
            ended=detail.get("end_time"),
            error=detail.get("error", {}).get("message"),
        )
        for detail in details
        if not internal(detail.get("display_name", ""))
    ]
    return sorted(tasks, key=lambda task: (task.started or "~", task.name))


def internal(name: str) -> bool:
    """Whether a task's name is one that Kubeflow itself gives: a driver's, a group's, the whole run's."""
    return (
        name in ("", "root", "executor", "entrypoint")
        or name.endswith("-driver")
        or name.startswith(("exit-handler-", "for-loop-", "condition-", "iteration-", "exit-hook-"))
        or "." in name
    )


def link(run: str) -> str | None:
    """Address of the run in the UI, where KF_PIPELINES_UI_ENDPOINT names it."""
    place = os.environ.get("KF_PIPELINES_UI_ENDPOINT")
    return f"{place.rstrip('/')}/#/runs/details/{run}" if place else None


def _headers() -> dict[str, str]:
    token = Path(os.environ.get("KF_PIPELINES_SA_TOKEN_PATH", TOKEN))
    return {"Authorization": f"Bearer {token.read_text().strip()}"} if token.is_file() else {}

"""The last word on a Kubeflow run: its state, tasks, scores and links, in MLflow, as artifacts, and to a webhook."""

import json
import os
import time
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

from ganflow import kubeflow, pipeline_run
from ganflow.artifacts import write_json, write_text
from ganflow.errors import RegistryError
from ganflow.kubeflow import Task
from ganflow.shown import table
from ganflow.tracking import mlflow_errors

WEBHOOK = "GANFLOW_WEBHOOK"
"""Environment variable: URL that the summary is posted to, as JSON with the sentence under `text`."""
TRIES = 3


def conclude(run: str, state: str, error: str | None, out: Path, overview: Path) -> dict[str, Any]:
    """Write the summary of the Kubeflow run everywhere; returns it. What could not be reached is listed in it."""
    trouble: list[str] = []
    tasks = _tasks(run, trouble)
    found = _begin(run, trouble)
    content = {
        "run": run,
        "state": _state(state, tasks),
        "error": error or None,
        "tasks": [task.as_dict() for task in tasks],
        "scores": found["metrics"],
        "notes": found["tags"],
        "links": {key: value for key, value in (("kubeflow", kubeflow.link(run)), ("mlflow", found["link"])) if value},
        "trouble": trouble,
    }
    write_json(out, content)
    write_text(overview, page(content))
    if found["run"]:
        _finish(found["run"], content, tasks, [str(out), str(overview)], trouble)
    if address := os.environ.get(WEBHOOK):
        _post(address, content, trouble)
    for sentence in trouble:
        print(f"ganflow: {sentence}")
    write_json(out, content)
    return content


def page(content: dict[str, Any]) -> str:
    """The summary as Markdown."""
    tasks = [
        (task["name"], "cached" if task["cached"] else task["state"], task["started"] or "", task["ended"] or "")
        for task in content["tasks"]
    ]
    scores = [(name, f"{value:.6g}") for name, value in sorted(content["scores"].items())]
    return "\n".join(
        [
            f"# Run {content['run']}: {content['state']}",
            *([f"\n{content['error']}"] if content["error"] else []),
            "",
            *table(("task", "state", "started", "ended"), tasks),
            "",
            *table(("score", "value"), scores),
            "",
            *(f"- {key.removeprefix('ganflow.')}: {value}" for key, value in sorted(content["notes"].items())),
            *(f"- [{name}]({address})" for name, address in content["links"].items()),
            *(f"- {sentence}" for sentence in content["trouble"]),
            "",
        ]
    )


def _state(state: str, tasks: list[Task]) -> str:
    """Kubeflow's word, unless a task says worse: the state of a group of tasks can lag behind (it reads RUNNING)."""
    for worst in ("FAILED", "CANCELED"):
        if any(task.state == worst for task in tasks):
            return worst
    return "SUCCEEDED" if state == "RUNNING" and tasks else state


def _tasks(run: str, trouble: list[str]) -> list[Task]:
    try:
        return [task for task in kubeflow.tasks_of(run) if task.name != kubeflow.EXIT_TASK]
    except (OSError, ValueError, HTTPException) as error:
        trouble.append(f"the Kubeflow Pipelines API does not tell the tasks ({error}); check KF_PIPELINES_ENDPOINT")
        return []


def _begin(run: str, trouble: list[str]) -> dict[str, Any]:
    """The MLflow run of this pipeline run, and what the steps wrote into it."""
    os.environ.setdefault("KFP_RUN_ID", run)
    try:
        with mlflow_errors():
            pipeline_run.choose_experiment()
            found = pipeline_run.pipeline_run()
            tags, metrics = pipeline_run.noted(found) if found else ({}, {})
            return {"run": found, "tags": tags, "metrics": metrics, "link": found and pipeline_run.link(found)}
    except RegistryError as error:
        trouble.append(str(error))
        return {"run": None, "tags": {}, "metrics": {}, "link": None}


def _finish(found: str, content: dict[str, Any], tasks: list[Task], files: list[str], trouble: list[str]) -> None:
    tags = {"ganflow.state": content["state"]} | {f"ganflow.task.{task.name}": task.state for task in tasks}
    if cached := ",".join(sorted(task.name for task in tasks if task.cached)):
        tags["ganflow.cached"] = cached
    if address := content["links"].get("kubeflow"):
        tags["ganflow.kubeflow_url"] = address
    try:
        with mlflow_errors():
            pipeline_run.write(found, tags, {})
            pipeline_run.end(found, content["state"], files)
    except RegistryError as error:
        trouble.append(str(error))


def _post(address: str, content: dict[str, Any], trouble: list[str]) -> None:
    """Three tries; the address is a secret, and is never printed."""
    text = f"ganflow run {content['run']}: {content['state']}"
    body = json.dumps({"text": text, **content}).encode()
    for attempt in range(1, TRIES + 1):
        try:
            request = urllib.request.Request(address, body, {"Content-Type": "application/json"}, method="POST")
            urllib.request.urlopen(request, timeout=kubeflow.TIMEOUT_SECONDS).close()
            return
        except (OSError, ValueError, HTTPException) as error:
            if attempt == TRIES:
                trouble.append(f"the webhook does not take the summary ({type(error).__name__}); check {WEBHOOK}")
            else:
                time.sleep(2**attempt / 2)

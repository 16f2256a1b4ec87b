"""A run on the cluster, watched to its end: a table of its tasks, and an honest last word."""

import sys
import time
from datetime import UTC, datetime
from typing import Any, TextIO

from ganflow.errors import ConfigError, GanflowError
from ganflow.kubeflow import Task, own_tasks, pods
from ganflow.promotion import columns
from pipelines.client import Cluster

ENDED = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
"""States that a run stays in."""


def watch(cluster: Cluster, run_id: str, timeout_seconds: float | None, interval: float) -> Any:
    """Show the run's tasks, every `interval` seconds, until it has ended; returns the run as it is then.

    Raises GanflowError when that takes longer than `timeout_seconds`; the run goes on.
    """
    screen = Screen(sys.stderr)
    end = time.monotonic() + timeout_seconds if timeout_seconds else None
    while True:
        run = cluster.ask("runs", "run_service_get_run", run_id)
        screen.show(run)
        if run.state in ENDED:
            return run
        if end and time.monotonic() > end:
            raise GanflowError(
                f"run {run_id} has not ended in {timeout_seconds:g} s, and goes on; `ganflow pipeline wait {run_id}` "
                "takes up the watch again"
            )
        time.sleep(interval)


def require_success(run: Any) -> None:
    """Raise GanflowError, with the reason, for a run that ended in any other way than well."""
    if run.state == "SUCCEEDED":
        return
    failed = [task for task in tasks_of(run) if task.state == "FAILED"]
    why = "; ".join(f"{task.name} failed{f' ({task.error})' if task.error else ''}" for task in failed)
    if not why and run.error is not None and run.error.message:
        why = run.error.message
    words = {
        "FAILED": "failed",
        "CANCELED": "was cancelled",
        "SKIPPED": "was skipped: nothing of it was run",
    }
    raise GanflowError(
        f"run {run.run_id} {words[run.state]}{f': {why}' if why else ''}; `ganflow pipeline logs {run.run_id}` has more"
    )


def tasks_of(run: Any) -> list[Task]:
    """The tasks that the pipeline names, in the order of their beginning."""
    return own_tasks(_details(run))


def pods_of(run: Any, task: str | None) -> list[tuple[str, str]]:
    """Name of the task, and its pod, for one task or all; the containers that ran, not the drivers."""
    names = sorted({one.name for one in tasks_of(run)})
    if task is not None and task not in names:
        raise ConfigError(f"run {run.run_id} has no task {task}; it has {', '.join(names) or 'none yet'}")
    return [(name, pod) for name, pod in pods(_details(run)) if task in (None, name)]


class Screen:
    """On a terminal the table, drawn over itself; in a log a line for each change."""

    def __init__(self, out: TextIO) -> None:
        self.out, self.drawn, self.known = out, 0, dict[str, str]()

    def show(self, run: Any) -> None:
        """The run's present state."""
        if self.out.isatty():
            self._draw([f"run {run.run_id}: {run.state}", *table(tasks_of(run))])
        else:
            self._tell(run)

    def _draw(self, lines: list[str]) -> None:
        up = f"\x1b[{self.drawn}A" if self.drawn else ""
        print(up + "\n".join(f"\x1b[2K{line}" for line in lines), file=self.out, flush=True)
        self.drawn = len(lines)

    def _tell(self, run: Any) -> None:
        states = {f"run {run.run_id}": run.state} | {task.name: word(task) for task in tasks_of(run)}
        for name, state in states.items():
            if state and self.known.get(name) != state:
                print(f"{name}: {state}", file=self.out, flush=True)
        self.known |= {name: state for name, state in states.items() if state}


def table(tasks: list[Task]) -> list[str]:
    """A line a task: its name, its state, when it began, and how long it took or takes."""
    return columns([("task", "state", "started", "took"), *(_row(task) for task in tasks)])


def word(task: Task) -> str:
    """The state, as people call it; KFP's API knows no word for a task that Argo has left out."""
    return "cached" if task.cached else task.state.lower().replace("runtime_state_unspecified", "not run")


def _row(task: Task) -> tuple[str, ...]:
    started = datetime.fromisoformat(task.started) if task.started else None
    ended = datetime.fromisoformat(task.ended) if task.ended else datetime.now(UTC)
    took = f"{int((ended - started).total_seconds())} s" if started and not task.cached else ""
    return (task.name, word(task), started.strftime("%H:%M:%S") if started else "", took)


def _details(run: Any) -> list[dict[str, Any]]:
    return [_plain(detail) for detail in (run.run_details.task_details if run.run_details else None) or []]


def _plain(detail: Any) -> dict[str, Any]:
    """As the API's JSON has it."""
    plain = {
        "display_name": detail.display_name or "",
        "state": detail.state,
        "start_time": detail.start_time and detail.start_time.isoformat(),
        "end_time": detail.end_time and detail.end_time.isoformat(),
        "error": detail.error and {"message": detail.error.message},
        "child_tasks": [{"pod_name": child.pod_name} for child in detail.child_tasks or []],
    }
    return {key: value for key, value in plain.items() if value is not None}

"""Recurring runs as a file says: made where they are missing, replaced where they differ, disabled where it is silent.

Kubeflow's recurring runs cannot be changed; a new one is made before the old one goes. What is ours is known by its
description, which has a fingerprint of what was asked for.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import kfp_server_api
import yaml
from pydantic import Field, model_validator

from ganflow.artifacts import fingerprint
from ganflow.config import parse
from ganflow.errors import ConfigError
from ganflow.section import Positive, Section
from pipelines.client import Cluster, Missing
from pipelines.submit import Order, experiment_id, version_reference

MARK = re.compile(r"^ganflow schedule ([0-9a-f]{64})$")


class Schedule(Section):
    """A recurring run."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    """Also the display name on the cluster."""
    raw: str
    """Raw images that DVC keeps; pinned as they are when the schedule is applied."""
    profile: str
    """A profile of the section `resources`."""
    cron: str | None = None
    """Six fields, seconds first, in UTC."""
    interval_seconds: Positive | None = None
    """Instead of cron."""
    set: list[str] = []
    """Overrides, as --set takes them."""
    experiment: str = "ganflow"
    """Experiment on the cluster."""
    enabled: bool = True
    """false keeps it and lets it start nothing."""
    max_concurrency: Annotated[int, Field(ge=1, le=10)] = 1
    """Runs at the same time."""
    catchup: bool = False
    """Whether times that were missed are made up for."""

    @model_validator(mode="after")
    def _has_a_rhythm(self) -> "Schedule":
        if (self.cron is None) == (self.interval_seconds is None):
            raise ValueError("give one of cron and interval_seconds")
        if self.cron is not None and len(self.cron.split()) != 6:
            raise ValueError(f"cron is {self.cron!r}; it has six fields, seconds first: 0 0 2 * * *")
        return self


class Schedules(Section):
    """The file."""

    schedules: list[Schedule]
    """Each with a name of its own."""

    @model_validator(mode="after")
    def _names_differ(self) -> "Schedules":
        names = [schedule.name for schedule in self.schedules]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two schedules are named {twice[0]}; a name is one schedule's")
        return self


@dataclass(frozen=True)
class Deed:
    """What was done about a schedule."""

    name: str
    done: str
    """created, replaced, enabled, disabled, deleted or unchanged."""


def read(path: Path) -> list[Schedule]:
    """The schedules of a file. Raises ConfigError when it is not one."""
    try:
        values = yaml.safe_load(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path} ({error.strerror}); name a file of schedules") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML ({' '.join(str(error).split())}); mend it there") from error
    return parse(Schedules, values if isinstance(values, dict) else {"schedules": values}, str(path)).schedules


def apply(cluster: Cluster, wanted: list[Schedule], order_of: Callable[[Schedule], Order]) -> list[Deed]:
    """Bring the cluster to what is wanted; `order_of` resolves what a schedule runs."""
    orders = [order_of(schedule) for schedule in wanted]  # all of them, before anything is changed
    there = ours(cluster)
    deeds = [
        _reconcile(cluster, schedule, order, there.pop(schedule.name, []))
        for schedule, order in zip(wanted, orders, strict=True)
    ]
    for name, runs in sorted(there.items()):
        on = [run for run in runs if run.status == "ENABLED"]
        for run in on:
            cluster.ask("recurring_runs", "recurring_run_service_disable_recurring_run", run.recurring_run_id)
        deeds.append(Deed(name, "disabled" if on else "unchanged"))
    return deeds


def ours(cluster: Cluster) -> dict[str, list[Any]]:
    """The recurring runs that schedules made, by name."""
    found: dict[str, list[Any]] = {}
    namespace = {"namespace": cluster.namespace} if cluster.namespace else {}
    for run in cluster.pages(
        "recurring_runs", "recurring_run_service_list_recurring_runs", "recurring_runs", **namespace
    ):
        if MARK.match(run.description or ""):
            found.setdefault(run.display_name, []).append(run)
    return found


def delete(cluster: Cluster, name: str) -> Deed:
    """Delete a schedule. Raises ConfigError when there is none of the name; runs that it started stay."""
    runs = ours(cluster)
    if name not in runs:
        raise ConfigError(f"there is no schedule {name}; there are {', '.join(sorted(runs)) or 'none'}")
    for run in runs[name]:
        _remove(cluster, run)
    return Deed(name, "deleted")


def _reconcile(cluster: Cluster, schedule: Schedule, order: Order, there: list[Any]) -> Deed:
    mark = f"ganflow schedule {_fingerprint(schedule, order)}"
    same = [run for run in there if run.description == mark]
    kept = same[0] if same else _create(cluster, schedule, order, mark)
    for run in there:
        if run.recurring_run_id != kept.recurring_run_id:
            _remove(cluster, run)
    if not same:
        return Deed(schedule.name, "replaced" if there else "created")
    if (kept.status == "ENABLED") == schedule.enabled:
        return Deed(schedule.name, "unchanged")
    verb = "enable" if schedule.enabled else "disable"
    cluster.ask("recurring_runs", f"recurring_run_service_{verb}_recurring_run", kept.recurring_run_id)
    return Deed(schedule.name, f"{verb}d")


def _fingerprint(schedule: Schedule, order: Order) -> str:
    """Of everything but whether it is enabled, which can be changed."""
    rest = schedule.model_dump(mode="json", exclude={"enabled"})
    return fingerprint({"schedule": rest, "order": order.as_dict()})


def _create(cluster: Cluster, schedule: Schedule, order: Order, mark: str) -> Any:
    trigger = (
        kfp_server_api.V2beta1Trigger(cron_schedule=kfp_server_api.V2beta1CronSchedule(cron=schedule.cron))
        if schedule.cron
        else kfp_server_api.V2beta1Trigger(
            periodic_schedule=kfp_server_api.V2beta1PeriodicSchedule(interval_second=str(schedule.interval_seconds))
        )
    )
    run = kfp_server_api.V2beta1RecurringRun(
        display_name=schedule.name,
        description=mark,
        experiment_id=experiment_id(cluster, order.experiment),
        pipeline_version_reference=version_reference(cluster, order),
        runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters=order.arguments),
        service_account=order.service_account,
        trigger=trigger,
        mode="ENABLE" if schedule.enabled else "DISABLE",
        max_concurrency=str(schedule.max_concurrency),
        no_catchup=not schedule.catchup,
    )

    def find() -> Any:
        return next((made for made in ours(cluster).get(schedule.name, []) if made.description == mark), None)

    return cluster.tell("recurring_runs", "recurring_run_service_create_recurring_run", run, find=find)


def _remove(cluster: Cluster, run: Any) -> None:
    """A removal whose answer was lost finds nothing the second time."""
    try:
        cluster.ask("recurring_runs", "recurring_run_service_delete_recurring_run", run.recurring_run_id)
    except Missing:
        return


def rhythm(run: Any) -> str:
    """When a recurring run starts, for people."""
    trigger = run.trigger
    if trigger.cron_schedule:
        return str(trigger.cron_schedule.cron)
    return f"every {trigger.periodic_schedule.interval_second} s"

"""`ganflow pipeline submit`, `wait`, `logs`, `retry`, `cancel` and `schedule`: the verbs that talk to a cluster."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganflow.cli import Arguments, add_verb
from ganflow.errors import GanflowError

if TYPE_CHECKING:
    from pipelines.submit import Order


def add(actions: Any, add_target: Callable[[Any], None]) -> None:
    """Add the verbs."""
    submitter = add_verb(actions, "submit", "start a run on the cluster", run_submit)
    submitter.add_argument(
        "raw", metavar="RAW", nargs="?", default="data/fashion-mnist", help="tracked by DVC, or a pin, or its file"
    )
    add_target(submitter)
    submitter.add_argument("--experiment", default="ganflow", metavar="NAME")
    submitter.add_argument("--wait", action="store_true", help="watch the run to its end")
    submitter.add_argument("--dry-run", action="store_true", help="print what would be submitted; ask no server")

    waiter = add_verb(actions, "wait", "watch a run to its end; fails unless it succeeds", run_wait, params=False)
    waiter.add_argument("run_id", metavar="RUN")
    waiter.add_argument("--timeout", type=float, metavar="SECONDS", help="watch no longer; the run goes on")
    waiter.add_argument("--interval", type=float, default=5.0, metavar="SECONDS", help="between two looks")
    waiter.add_argument("--json", action="store_true", help="print the run's state and tasks as JSON")

    logger = add_verb(actions, "logs", "what the tasks of a run have printed", run_logs, params=False)
    logger.add_argument("run_id", metavar="RUN")
    logger.add_argument("task", metavar="TASK", nargs="?", help="this one only, and follow it")

    retrier = add_verb(
        actions, "retry", "run the failed tasks of a run again, in the same run", run_retry, params=False
    )
    retrier.add_argument("run_id", metavar="RUN")

    canceller = add_verb(actions, "cancel", "end a run; what it has made stays", run_cancel, params=False)
    canceller.add_argument("run_id", metavar="RUN")

    help_text = "recurring runs, as a file says"
    schedules = actions.add_parser("schedule", help=help_text, description=help_text)
    verbs = schedules.add_subparsers(title="actions", metavar="ACTION", required=True)
    applier = add_verb(verbs, "apply", "create, replace, enable and disable recurring runs as FILE says", run_apply)
    applier.add_argument("file", type=Path, metavar="FILE")
    add_target(applier)
    lister = add_verb(verbs, "list", "the recurring runs that schedules made", run_list, params=False)
    lister.add_argument("--json", action="store_true", help="print them as JSON")
    deleter = add_verb(verbs, "delete", "delete a recurring run; runs that it started stay", run_delete, params=False)
    deleter.add_argument("name", metavar="NAME")


def run_submit(arguments: Arguments) -> None:
    """`ganflow pipeline submit`."""
    from pipelines.client import Cluster
    from pipelines.submit import submit

    order = _order(arguments, arguments.raw, arguments.profile, arguments.overrides, arguments.experiment)
    if arguments.dry_run:
        print(json.dumps(order.as_dict(), indent=2))
        return
    cluster = Cluster()
    run_id = submit(cluster, order)
    print(run_id, flush=True)
    print(cluster.link(run_id), file=sys.stderr)
    if arguments.wait:
        _wait(cluster, run_id)


def run_wait(arguments: Arguments) -> None:
    """`ganflow pipeline wait`."""
    from pipelines.client import Cluster

    _wait(Cluster(), arguments.run_id, arguments.timeout, arguments.interval, arguments.json)


def run_logs(arguments: Arguments) -> None:
    """`ganflow pipeline logs`."""
    from pipelines.client import Cluster
    from pipelines.watch import pods_of

    cluster, told = Cluster(), False
    run = cluster.ask("runs", "run_service_get_run", arguments.run_id)
    for task, pod in pods_of(run, arguments.task):
        try:
            for number, piece in enumerate(cluster.logs(arguments.run_id, pod)):
                print("" if number else f"== {task} ({pod})\n", end="")
                sys.stdout.write(piece.decode(errors="replace"))
                sys.stdout.flush()
                told = True
        except GanflowError as error:  # a pod that was preempted is gone, and the others are not
            print(f"ganflow: {error}", file=sys.stderr)
    if not told:
        raise GanflowError(
            f"run {arguments.run_id} has no log that the API gives; what the cluster still has shows `kubectl logs -n "
            f"{cluster.namespace or 'kubeflow'} -l pipeline/runid={arguments.run_id} -c main --prefix --tail=-1`"
        )


def run_retry(arguments: Arguments) -> None:
    """`ganflow pipeline retry`."""
    from pipelines.client import Cluster

    Cluster().ask("runs", "run_service_retry_run", arguments.run_id)
    print(
        f"the failed tasks of run {arguments.run_id} run again; `ganflow pipeline wait {arguments.run_id}` watches them"
    )


def run_cancel(arguments: Arguments) -> None:
    """`ganflow pipeline cancel`."""
    from pipelines.client import Cluster

    Cluster().ask("runs", "run_service_terminate_run", arguments.run_id)
    print(f"run {arguments.run_id} is being cancelled; `ganflow pipeline wait {arguments.run_id}` sees its end")


def run_apply(arguments: Arguments) -> None:
    """`ganflow pipeline schedule apply`."""
    from pipelines import schedule
    from pipelines.client import Cluster

    wanted = schedule.read(arguments.file)

    def order_of(one: schedule.Schedule) -> "Order":
        return _order(arguments, one.raw, one.profile, [*arguments.overrides, *one.set], one.experiment)

    for deed in schedule.apply(Cluster(), wanted, order_of):
        print(f"{deed.name}: {deed.done}")


def run_list(arguments: Arguments) -> None:
    """`ganflow pipeline schedule list`."""
    from ganflow.promotion import columns
    from pipelines.client import Cluster
    from pipelines.schedule import ours, rhythm

    found = [run for runs in ours(Cluster()).values() for run in runs]
    rows = [(run.display_name, rhythm(run), str(run.status).lower(), run.recurring_run_id) for run in found]
    header = ("name", "when", "status", "id")
    if arguments.json:
        print(json.dumps([dict(zip(header, row, strict=True)) for row in rows], indent=2))
    else:
        print("\n".join(columns([header, *rows])))


def run_delete(arguments: Arguments) -> None:
    """`ganflow pipeline schedule delete`."""
    from pipelines import schedule
    from pipelines.client import Cluster

    print(f"{arguments.name}: {schedule.delete(Cluster(), arguments.name).done}")


def _wait(
    cluster: Any, run_id: str, timeout: float | None = None, interval: float = 5.0, as_json: bool = False
) -> None:
    from pipelines.watch import require_success, tasks_of, watch

    run = watch(cluster, run_id, timeout, interval)
    if as_json:
        content = {"run": run.run_id, "state": run.state, "tasks": [task.as_dict() for task in tasks_of(run)]}
        print(json.dumps(content, indent=2))
    require_success(run)


def _order(arguments: Arguments, raw: str, profile: str, overrides: list[str], experiment: str) -> "Order":
    """What is to be run. Raises ConfigError when an image could move, or a parameter is wrong."""
    from ganflow.config import load
    from pipelines.compile import require_digests, yaml_for
    from pipelines.submit import Order, data_pin
    from pipelines.submit import arguments as pipeline_arguments

    if not arguments.allow_tags:
        require_digests(arguments.image, arguments.small_image)
    params = load(arguments.params, overrides)
    return Order(
        pipeline=arguments.pipeline,
        yaml=yaml_for(arguments.pipeline, params, profile, arguments.image, arguments.small_image),
        arguments=pipeline_arguments(data_pin(raw), params, arguments.pipeline),
        experiment=experiment,
        service_account=params.resources.service_account,
    )

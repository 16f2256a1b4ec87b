"""The training of a flow: a task on one node, or for a profile with more the task that launches a TrainJob."""

from typing import Any

from components.launch.component import launch as launch_step
from components.train.component import train as train_step
from pipelines.resources import Target


def train_task(prepared: Any, reference: Any, train: Any, target: Target | None) -> Any:
    """The task whose output is the model, with what it gets on the target."""
    several = target is not None and target.profile.nodes > 1
    task = (launch_step if several else train_step)(prepared=prepared, reference=reference, train=train)
    if target is None:
        return task
    if several:
        target.launcher(task)
    else:
        target.heavy(task, target.profile.accelerators)
    return task

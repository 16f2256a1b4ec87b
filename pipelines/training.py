"""The flow for Kubeflow. dvc.yaml draws the same graph without promote (a test holds them equal).

The exit task hangs on an ExitHandler: KFP's compiler makes an Argo exit hook of it, which runs once, however the tasks
ended. A task with `ignore_upstream_failure` becomes a hook of each task before it: it runs many times, and never when
those did not start (docs/adr/0008-the-exit-task.md).
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from kfp import dsl

from components.champion.component import champion as champion_step
from components.doctor.component import doctor as doctor_step
from components.evaluate.component import evaluate as evaluate_step
from components.prepare.component import prepare as prepare_step
from components.promote.component import promote as promote_step
from components.reference.component import reference as reference_step
from components.register.component import register as register_step
from components.summary.component import summary as summary_step
from pipelines.resources import Target
from pipelines.shards import prepare_in_shards
from pipelines.trained import train_task


def build(target: Target | None = None) -> Any:
    """The pipeline for a cluster; with None the bare flow, as kfp.local runs it."""
    sharded = target if target and target.profile.shards > 1 else None

    @dsl.pipeline(name="training", pipeline_config=target.config() if target else None)
    def training(raw: str, data: str, train: str, evaluate: str, register: str, promote: str) -> None:
        """From raw images to a measured, registered and, if the gate agrees, promoted generator.

        Args:
            raw: Path of the raw images, or the pin of a set that DVC keeps, as `ganflow data pin` prints it.
            data: The section `data` of params.yaml, as JSON.
            train: The section `train` of params.yaml, as JSON.
            evaluate: The section `evaluate` of params.yaml, as JSON.
            register: The section `register` of params.yaml, as JSON.
            promote: The section `promote` of params.yaml, as JSON.
        """
        with _summarised(target):
            checked = _checked(raw, target)
            prepared = prepare_in_shards(raw, data, sharded, checked) if sharded else prepare_step(raw=raw, data=data)
            reference = reference_step(prepared=prepared.output, evaluate=evaluate)
            model = train_task(prepared.output, reference.output, train, target)
            scored = evaluate_step(model=model.output, reference=reference.output, evaluate=evaluate)
            registered = register_step(model=model.output, evaluation=scored.outputs["evaluation"], register=register)
            rival = champion_step(
                evaluation=scored.outputs["evaluation"], reference=reference.output, register=register
            )
            promoted = promote_step(registration=registered.output, champion=rival.output, promote=promote)

        if checked:
            prepared.after(checked)
        for of_the_registry in (rival, registered, promoted):
            of_the_registry.set_caching_options(False)
        if target:
            target.prepare(prepared)
            target.heavy(reference, 1)
            target.heavy(scored, 1)
            target.heavy(rival, 1)
            target.light(registered)
            target.light(promoted)

    return training


def _checked(raw: Any, target: Target | None) -> Any:
    """The task that looks whether a training's pod has what it needs, where the resources ask for it; else None."""
    if target is None or not target.resources.doctor:
        return None
    images, profile = f"{target.image} {target.small_image}", target.profile
    task = doctor_step(raw=raw, images=images, accelerators=profile.accelerators, shm=profile.shm, nodes=profile.nodes)
    target.heavy(task, profile.accelerators)
    target.known_to_itself(task)
    return task.set_caching_options(False)


def _summarised(target: Target | None) -> AbstractContextManager[Any]:
    """The group of tasks that the exit task waits for."""
    if target is None:
        return nullcontext()
    task = summary_step(run=dsl.PIPELINE_JOB_ID_PLACEHOLDER).set_caching_options(False)
    target.exit(task)
    if target.profile.nodes > 1:
        target.known_to_itself(task)
    group: AbstractContextManager[Any] = dsl.ExitHandler(task, name="flow")
    return group

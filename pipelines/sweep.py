"""Several trainings side by side, and the best of them through the gate, which asks more of the best of many.

There is no exit task: a ParallelFor within an ExitHandler fails on KFP's backend (kubeflow/pipelines#12390).
"""

from typing import Any

from kfp import dsl

from components.best.component import best as best_step
from components.champion.component import champion as champion_step
from components.evaluate.component import evaluate as evaluate_step
from components.prepare.component import prepare as prepare_step
from components.promote.component import promote as promote_step
from components.reference.component import reference as reference_step
from components.register.component import register as register_step
from pipelines.resources import Target
from pipelines.trained import train_task


def build(parallelism: int, target: Target | None = None) -> Any:
    """The pipeline for a cluster, with so many trainings at a time; with None as kfp.local runs it."""

    @dsl.pipeline(name="sweep", pipeline_config=target.config() if target else None)
    def sweep(raw: str, data: str, trainings: list[str], evaluate: str, register: str, promote: str) -> None:
        """From raw images to the best of several generators, registered and, if the gate agrees, promoted.

        Args:
            raw: Path of the raw images, or the pin of a set that DVC keeps, as `ganflow data pin` prints it.
            data: The section `data` of params.yaml, as JSON.
            trainings: The section `train` of each training, as JSON.
            evaluate: The section `evaluate` of params.yaml, as JSON.
            register: The section `register` of params.yaml, as JSON.
            promote: The section `promote` of params.yaml, as JSON, with best_of as many as there are trainings.
        """
        prepared = prepare_step(raw=raw, data=data)
        reference = reference_step(prepared=prepared.output, evaluate=evaluate)
        with dsl.ParallelFor(trainings, parallelism=parallelism) as train:
            model = train_task(prepared.output, reference.output, train, target)
            scored = evaluate_step(model=model.output, reference=reference.output, evaluate=evaluate)
        chosen = best_step(models=dsl.Collected(model.output), evaluations=dsl.Collected(scored.outputs["evaluation"]))
        registered = register_step(
            model=chosen.outputs["model"], evaluation=chosen.outputs["evaluation"], register=register
        )
        rival = champion_step(evaluation=chosen.outputs["evaluation"], reference=reference.output, register=register)
        promoted = promote_step(registration=registered.output, champion=rival.output, promote=promote)

        for of_the_registry in (rival, registered, promoted):
            of_the_registry.set_caching_options(False)
        if target:
            target.prepare(prepared)
            target.heavy(reference, 1)
            target.heavy(scored, 1)
            target.heavy(rival, 1)
            for task in (chosen, registered, promoted):
                target.light(task)

    return sweep

"""The flow for Kubeflow. dvc.yaml draws the same graph without promote (a test holds them equal)."""

from typing import Any

from kfp import dsl

from components import IMAGE
from components.evaluate.component import evaluate as evaluate_step
from components.prepare.component import prepare as prepare_step
from components.promote.component import promote as promote_step
from components.reference.component import reference as reference_step
from components.register.component import register as register_step
from components.train.component import train as train_step


def build(image: str = IMAGE) -> Any:
    """The pipeline, with every step in `image`."""

    @dsl.pipeline(name="training")
    def training(raw: str, data: str, train: str, evaluate: str, register: str, promote: str) -> None:
        """From raw images to a measured, registered and, if the gate agrees, promoted generator.

        Args:
            raw: Path of the raw images.
            data: The section `data` of params.yaml, as JSON.
            train: The section `train` of params.yaml, as JSON.
            evaluate: The section `evaluate` of params.yaml, as JSON.
            register: The section `register` of params.yaml, as JSON.
            promote: The section `promote` of params.yaml, as JSON.
        """
        prepared = prepare_step(raw=raw, data=data)
        reference = reference_step(prepared=prepared.output, evaluate=evaluate)
        model = train_step(prepared=prepared.output, reference=reference.output, train=train)
        scored = evaluate_step(model=model.output, reference=reference.output, evaluate=evaluate)
        registered = register_step(model=model.output, evaluation=scored.output, register=register)
        promoted = promote_step(registration=registered.output, promote=promote)

        for side_effect in (registered, promoted):
            side_effect.set_caching_options(False)
        for task in (prepared, reference, model, scored, registered, promoted):
            task.set_container_image(image)

    return training

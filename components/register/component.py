"""register: the model into the MLflow registry."""

from kfp import dsl

from components import SMALL_IMAGE


@dsl.component(base_image=SMALL_IMAGE, install_kfp_package=False)
def register(
    model: dsl.Input[dsl.Model],
    evaluation: dsl.Input[dsl.Artifact],
    register: str,
    registration: dsl.Output[dsl.Artifact],
) -> None:
    """Make a model version of exactly what was scored, with the alias candidate.

    Args:
        model: What the step train wrote.
        evaluation: What the step evaluate wrote.
        register: The section `register` of params.yaml, as JSON.

    Returns:
        registration: JSON file that names the model version.
    """
    from ganflow import steps

    steps.register(model.path, evaluation.path, registration.path, register)

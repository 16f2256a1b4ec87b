"""promote: the gate."""

from kfp import dsl

from components import SMALL_IMAGE


@dsl.component(base_image=SMALL_IMAGE, install_kfp_package=False)
def promote(
    registration: dsl.Input[dsl.Artifact],
    champion: dsl.Input[dsl.Artifact],
    promote: str,
    decision: dsl.Output[dsl.Artifact],
    gate: dsl.Output[dsl.Markdown],
) -> None:
    """Move the alias champion to the registered version if the gate agrees; a no is a decision, not a failure.

    Args:
        registration: What the step register wrote.
        champion: What the step champion wrote.
        promote: The section `promote` of params.yaml, as JSON.

    Returns:
        decision: JSON file of the verdict and its reason.
        gate: The same, for the Kubeflow Pipelines UI.
    """
    from ganflow import steps

    steps.promote_shown(registration.path, champion.path, decision.path, promote, gate.path)

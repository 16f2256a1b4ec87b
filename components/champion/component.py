"""champion: the champion under the candidate's protocol."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def champion(
    evaluation: dsl.Input[dsl.Artifact],
    reference: dsl.Input[dsl.Artifact],
    register: str,
    measured: dsl.Output[dsl.Artifact],
) -> None:
    """Measure the champion as the candidate was measured, where that was otherwise: after a change of the data, mostly.

    Args:
        evaluation: What the step evaluate wrote of the candidate.
        reference: What the step reference wrote.
        register: The section `register` of params.yaml, as JSON.

    Returns:
        measured: Folder that names the champion's version, with its evaluation, or no version where none was needed.
    """
    from ganflow import steps

    steps.champion(evaluation.path, reference.path, measured.path, register)

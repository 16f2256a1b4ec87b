"""evaluate: the model's score."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    model: dsl.Input[dsl.Model],
    reference: dsl.Input[dsl.Artifact],
    evaluate: str,
    evaluation: dsl.Output[dsl.Artifact],
) -> None:
    """Generate images with the model and score them against the reference.

    Args:
        model: What the step train wrote.
        reference: What the step reference wrote.
        evaluate: The section `evaluate` of params.yaml, as JSON.

    Returns:
        evaluation: Folder of scores.json, each image's influence on the score, a sample grid, and the HTML report.
    """
    from ganflow import steps

    steps.evaluate(model.path, reference.path, evaluation.path, evaluate)

"""evaluate: the model's score."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    model: dsl.Input[dsl.Model],
    reference: dsl.Input[dsl.Artifact],
    evaluate: str,
    evaluation: dsl.Output[dsl.Artifact],
    report: dsl.Output[dsl.HTML],
    samples: dsl.Output[dsl.HTML],
    scores: dsl.Output[dsl.Metrics],
) -> None:
    """Generate images with the model and score them against the reference.

    Args:
        model: What the step train wrote.
        reference: What the step reference wrote.
        evaluate: The section `evaluate` of params.yaml, as JSON.

    Returns:
        evaluation: Folder of scores.json, each image's influence on the score, a sample grid, and the HTML report.
        report: The report, for the Kubeflow Pipelines UI.
        samples: The sample grid, for the UI.
        scores: The scores, for the UI.
    """
    from ganflow import steps

    steps.evaluate_shown(
        model.path, reference.path, evaluation.path, evaluate, report.path, samples.path, scores.metadata
    )

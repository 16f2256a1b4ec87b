"""best: of several trained models, the one with the best score."""

from kfp import dsl

from components import SMALL_IMAGE


@dsl.component(base_image=SMALL_IMAGE, install_kfp_package=False)
def best(
    models: dsl.Input[list[dsl.Model]],
    evaluations: dsl.Input[list[dsl.Artifact]],
    model: dsl.Output[dsl.Model],
    evaluation: dsl.Output[dsl.Artifact],
    ranking: dsl.Output[dsl.Markdown],
) -> None:
    """Keep the model with the lowest score, and its evaluation.

    Args:
        models: What the trainings of the sweep wrote.
        evaluations: What the evaluations of the sweep wrote.

    Returns:
        model: The best one's folder.
        evaluation: Its evaluation's folder.
        ranking: All scores, for the Kubeflow Pipelines UI.
    """
    from ganflow import steps

    steps.best(
        [one.path for one in models], [one.path for one in evaluations], model.path, evaluation.path, ranking.path
    )

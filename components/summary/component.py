"""summary: the exit task."""

from kfp import dsl

from components import SMALL_IMAGE


@dsl.component(base_image=SMALL_IMAGE, install_kfp_package=False)
def summary(
    status: dsl.PipelineTaskFinalStatus,
    run: str,
    summary: dsl.Output[dsl.Artifact],
    overview: dsl.Output[dsl.Markdown],
) -> None:
    """Write how the run ended, its tasks, scores and links, into MLflow and as artifacts, and post them if asked.

    Args:
        status: How the tasks ended, from Kubeflow.
        run: Id of the Kubeflow run.

    Returns:
        summary: JSON file of the state, the tasks, the scores and the links.
        overview: The same for the Kubeflow Pipelines UI.
    """
    from ganflow import steps

    steps.summary(run, status.state, status.error_message, summary.path, overview.path)

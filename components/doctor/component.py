"""doctor: the optional first task."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def doctor(raw: str, images: str, accelerators: int, shm: str, nodes: int, findings: dsl.Output[dsl.Markdown]) -> None:
    """Look whether this pod has what the run needs, and fail with the cure before an hour is lost.

    Args:
        raw: The raw images: a pin's text, or a path.
        images: Names of the container images, separated by spaces.
        accelerators: How many GPUs must be visible.
        shm: How large /dev/shm must be, as Kubernetes writes it.
        nodes: How many nodes train; for more than one, TrainJobs must be there to be made.

    Returns:
        findings: A line a check, for the Kubeflow Pipelines UI.
    """
    from ganflow import steps

    steps.doctor(raw, images, accelerators, shm, nodes, findings.path)

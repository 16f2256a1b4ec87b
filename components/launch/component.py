"""launch: the step train, on several nodes."""

from kfp import dsl

from components import SMALL_IMAGE


@dsl.component(base_image=SMALL_IMAGE, install_kfp_package=False)
def launch(
    prepared: dsl.Input[dsl.Dataset], reference: dsl.Input[dsl.Artifact], train: str, model: dsl.Output[dsl.Model]
) -> None:
    """Train on the nodes of a TrainJob, which goes on from a checkpoint if there is one, and bring the model back.

    Args:
        prepared: What the step prepare wrote.
        reference: What the step reference wrote; the state with the lowest online FID against it is kept.
        train: The section `train` of params.yaml, as JSON.

    Returns:
        model: Folder of the averaged generator's weights, the history, sample grids, and the card model.json.
    """
    from ganflow import steps

    steps.launch(prepared.path, reference.path, model.path, train)

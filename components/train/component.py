"""train: adversarial training."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    prepared: dsl.Input[dsl.Dataset], reference: dsl.Input[dsl.Artifact], train: str, model: dsl.Output[dsl.Model]
) -> None:
    """Train the generator against the discriminator under one MLflow run, going on from a checkpoint if there is one.

    Args:
        prepared: What the step prepare wrote.
        reference: What the step reference wrote; the state with the lowest online FID against it is kept.
        train: The section `train` of params.yaml, as JSON.

    Returns:
        model: Folder of the averaged generator's weights, the history, sample grids, and the card model.json.
    """
    from ganflow import steps

    steps.train_in_pod(prepared.path, reference.path, model.path, train)

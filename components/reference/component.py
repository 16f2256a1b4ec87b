"""reference: the real images, measured once a data version."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def reference(prepared: dsl.Input[dsl.Dataset], evaluate: str, reference: dsl.Output[dsl.Artifact]) -> None:
    """Fetch or fit the feature extractor, and measure the held-out real images with it.

    Args:
        prepared: What the step prepare wrote.
        evaluate: The section `evaluate` of params.yaml, as JSON.

    Returns:
        reference: Folder of the extractor's weights, the real images' statistics, and the card protocol.json.
    """
    from ganflow import steps

    steps.reference(prepared.path, reference.path, evaluate)

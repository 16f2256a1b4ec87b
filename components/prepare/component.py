"""prepare: raw images in, one uint8 array out."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prepare(raw: str, data: str, prepared: dsl.Output[dsl.Dataset]) -> None:
    """Decode, check, resize, crop and split the raw images; every rejected file is listed with its reason.

    Args:
        raw: Path of the raw images: a folder, an archive, or an idx, npy or npz file.
        data: The section `data` of params.yaml, as JSON.

    Returns:
        prepared: Folder of the images as one uint8 array, their labels, and the card dataset.json.
    """
    from ganflow import steps

    steps.prepare(raw, prepared.path, data)

"""shard: a part of the raw images, prepared beside the other parts."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def shard(raw: str, data: str, part: str, piece: dsl.Output[dsl.Dataset]) -> None:
    """Decode, check, resize, crop and split one part of the raw images.

    Args:
        raw: Path of the raw images, or the pin of a set that DVC keeps.
        data: The section `data` of params.yaml, as JSON.
        part: Which part of how many, 0/4 for example.

    Returns:
        piece: Folder of the part's images, for merge.
    """
    from ganflow import steps

    steps.prepare(raw, piece.path, data, part)

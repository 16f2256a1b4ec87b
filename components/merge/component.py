"""merge: the parts of a prepared set, put together."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def merge(
    first: dsl.Input[dsl.Dataset],
    second: dsl.Input[dsl.Dataset],
    prepared: dsl.Output[dsl.Dataset],
    third: dsl.Input[dsl.Dataset] = None,
    fourth: dsl.Input[dsl.Dataset] = None,
    fifth: dsl.Input[dsl.Dataset] = None,
    sixth: dsl.Input[dsl.Dataset] = None,
    seventh: dsl.Input[dsl.Dataset] = None,
    eighth: dsl.Input[dsl.Dataset] = None,
) -> None:
    """Put the parts of a set together, to the same bytes as one prepare makes.

    Args:
        first: A part, of the first shard.
        second: A part.
        third: A part, if there are so many.
        fourth: A part, if there are so many.
        fifth: A part, if there are so many.
        sixth: A part, if there are so many.
        seventh: A part, if there are so many.
        eighth: A part, if there are so many.

    Returns:
        prepared: Folder of the images as one uint8 array, their labels, and the card dataset.json.
    """
    from ganflow import steps

    steps.merge(
        [part.path for part in (first, second, third, fourth, fifth, sixth, seventh, eighth) if part], prepared.path
    )

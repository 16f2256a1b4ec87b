"""The step `prepare`: raw images of any of the usual formats become one uint8 array, its labels and a card."""

from ganflow.data.merging import merge, prepare_piece
from ganflow.data.preparation import prepare

__all__ = ["merge", "prepare", "prepare_piece"]

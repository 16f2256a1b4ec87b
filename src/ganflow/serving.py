"""The registered model as MLflow loads it: `mlflow.pyfunc.load_model("models:/NAME@champion").predict(...)`.

MLflow's loader imports this module by name and hands it the model's data folder: no pickle on the way.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ganflow.artifacts import Model
from ganflow.images import Images
from ganflow.sampling import load_generator, sample

COLUMNS = ("seed", "count")


class Sampler:
    """Seeds and counts in, uint8 images out."""

    def __init__(self, folder: Path) -> None:
        self.generator, self.latent_dim = load_generator(Model(folder))

    def predict(self, model_input: Mapping[str, Sequence[int]], params: dict[str, Any] | None = None) -> Images:
        """For each row of columns `seed` and `count`, that many images: uint8 (sum of counts, C, R, R).

        The first `count` images of a seed are the same, byte for byte, whatever is asked beside them.
        """
        rows = zip(*(model_input[column] for column in COLUMNS), strict=True)
        chunks = [
            chunk.numpy()
            for seed, count in rows
            for chunk in sample(self.generator, self.latent_dim, int(seed), int(count))
        ]
        return np.concatenate(chunks)


def _load_pyfunc(path: str) -> Sampler:
    return Sampler(Path(path))

"""The registered model as MLflow loads it: `mlflow.pyfunc.load_model("models:/NAME@champion").predict(...)`.

MLflow's loader imports this module by name and hands it the model's data folder: no pickle on the way.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ganflow.artifacts import Model, read_json, write_json
from ganflow.errors import ConfigError
from ganflow.images import Images, write_png
from ganflow.progress import progress
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


def write_folder(model: Path, out: Path, seed: int, count: int) -> None:
    """Draw `count` images of the model in a folder into `out`, image i as 000000i.png; goes on where it was stopped.

    Raises ConfigError when `out` holds what is not such a drawing of this model and seed.
    """
    drawing = {"generator_sha256": Model(model).read_card()["generator_sha256"], "seed": seed}
    mark = out / "drawing.json"
    if out.exists() and any(out.iterdir()) and not (mark.exists() and read_json(mark) == drawing):
        raise ConfigError(f"{out} holds something else than images of this model and seed {seed}; name another folder")
    write_json(mark, drawing)
    generator, latent_dim = load_generator(Model(model))
    with progress("sample") as advance:
        done = 0
        for chunk in sample(generator, latent_dim, seed, count):
            for image in chunk.numpy():
                write_png(out / f"{done:07d}.png", image.transpose(1, 2, 0))
                done += 1
            advance(done, count)


def _load_pyfunc(path: str) -> Sampler:
    return Sampler(Path(path))

"""Pictures of a generator, conditional or not."""

import numpy as np
import torch
from torch import Tensor, nn

from ganflow import randomness
from ganflow.pictures import PER_CLASS, STEPS, beside, class_grid, interpolation, thumbnails
from ganflow.sampling import sample


class Plain(nn.Module):
    """The first latents as a row of pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.3))

    def forward(self, latents: Tensor) -> Tensor:
        return (latents[:, :4] * self.scale).view(-1, 1, 1, 4).expand(-1, 1, 4, 4)


class Conditional(Plain):
    """A class is a level of grey."""

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        return super().forward(latents) * 0 + (labels / 4 - 1).view(-1, 1, 1, 1)


def cells(sheet: np.ndarray, columns: int) -> np.ndarray:
    """The 4x4 images (rows, columns, 4, 4) of a grid with gaps of 2."""
    rows = (sheet.shape[0] + 2) // 6
    return np.array([[sheet[6 * r : 6 * r + 4, 6 * c : 6 * c + 4, 0] for c in range(columns)] for r in range(rows)])


def test_a_walk_begins_and_ends_at_samples() -> None:
    walks = cells(interpolation(Plain(), 8, 0), STEPS)
    samples = torch.cat(list(sample(Plain(), 8, 0, 2 * STEPS))).numpy()[:, 0]
    assert walks.shape == (STEPS, STEPS, 4, 4)
    for row, walk in enumerate(walks):
        assert np.abs(walk[0].astype(int) - samples[2 * row]).max() <= 1
        assert np.abs(walk[-1].astype(int) - samples[2 * row + 1]).max() <= 1
    assert not np.array_equal(walks[:, 3], walks[:, 0])


def test_a_walk_stays_on_the_sphere() -> None:
    seen: list[Tensor] = []

    class Watch(Plain):
        def forward(self, latents: Tensor) -> Tensor:
            seen.append(latents)
            return super().forward(latents)

    interpolation(Watch(), 64, 0)
    norms = seen[0].norm(dim=1).view(STEPS, STEPS)
    ends = randomness.normal(0, randomness.Stream.SAMPLES, torch.arange(2 * STEPS), 64).norm(dim=1).view(STEPS, 2)
    assert (norms.min(1).values >= 0.9 * ends.min(1).values).all()


def test_a_row_a_class() -> None:
    rows = cells(class_grid(Conditional(), 8, 0, 10), PER_CLASS)
    assert rows.shape[0] == 10
    expected = [min(round(label / 4 * 127.5), 255) for label in range(10)]
    assert [int(row[0, 0, 0]) for row in rows] == expected
    assert all((row == row[0, 0, 0]).all() for row in rows)
    assert interpolation(Conditional(), 8, 0, 3).shape == interpolation(Plain(), 8, 0).shape


def test_neighbours_stand_to_the_right_of_samples() -> None:
    samples, near = np.full((6, 1, 4, 4), 10, np.uint8), np.full((6, 1, 4, 4), 20, np.uint8)
    sheet = cells(beside(samples, near), 8)
    assert (sheet[0, 0::2] == 10).all()
    assert (sheet[0, 1::2] == 20).all()


def test_small_pictures_are_means() -> None:
    image = np.arange(128 * 128).reshape(1, 1, 128, 128).astype(np.uint8)
    small = thumbnails(image)
    assert small.shape == (1, 1, 64, 64)
    assert small[0, 0, 0, 0] == round(float(image[0, 0, :2, :2].mean()))
    assert thumbnails(image[..., :28, :28]).shape == (1, 1, 28, 28)

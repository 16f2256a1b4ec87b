import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from ganflow.artifacts import Model, file_hash
from ganflow.errors import ArtifactError
from ganflow.images import grid, write_png
from ganflow.networks import build_generator
from ganflow.sampling import sample_array

ARCHITECTURE = {"name": "dcgan", "latent_dim": 8, "width": 8, "resolution": 28, "channels": 1}


@pytest.fixture
def model(tmp_path):
    model = Model(tmp_path)
    generator = build_generator(ARCHITECTURE)
    with torch.no_grad():
        for weight in generator.parameters():  # far from their first values, so that images use the whole range
            weight.mul_(5)
    save_file(generator.state_dict(), model.generator)
    model.write_card({"architecture": ARCHITECTURE, "generator_sha256": file_hash(model.generator)})
    return model


def test_an_image_depends_on_seed_and_index_alone(model):
    many = sample_array(model.path, 5, 150)
    assert many.shape == (150, 1, 28, 28)
    assert many.dtype == np.uint8
    assert many.std() > 1
    for count in (1, 64, 65, 149):
        assert np.array_equal(many[:count], sample_array(model.path, 5, count))
    assert not np.array_equal(many, sample_array(model.path, 6, 150))


def test_damaged_weights_are_never_loaded(model):
    content = bytearray(model.generator.read_bytes())
    content[-1] ^= 1
    model.generator.write_bytes(content)
    with pytest.raises(ArtifactError, match=r"generator\.safetensors is damaged: its sha256"):
        sample_array(model.path, 0, 1)


def test_a_grid_lays_images_out_row_by_row(tmp_path):
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 4, 4), np.uint8)
    sheet = grid(images, columns=2, gap=1)
    assert sheet.shape == (14, 9, 3)
    assert [sheet[0, 0, 0], sheet[0, 5, 0], sheet[5, 0, 0], sheet[10, 0, 0]] == [0, 1, 2, 4]
    assert sheet[10, 5, 0] == sheet[4, 0, 0] == 255
    write_png(tmp_path / "a.png", sheet, scale=2)
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (18, 28)

"""Known collapses raise an alarm, and healthy trainings none: squares and crosses, trained for real."""

import pytest
from conftest import shapes
from runs import run

from ganflow.training import Sets

IMAGES, LABELS = shapes(2000, seed=1)
SETS = Sets(IMAGES[:, None], LABELS, IMAGES[:200, None], LABELS[:200])
SHORT = {"width": 4, "latent_dim": 16, "batch_size": 32, "total_images": 12_000, "log_every_images": 500,
         "checkpoint_every_images": 10**6, "sample_every_images": 10**6, "ema_half_life_images": 500}  # fmt: skip
MLP = {"generator": "mlp", "discriminator": "cnn"}
COLLAPSES = {
    "a D that is too strong": ({"loss": "minimax", "discriminator_learning_rate": 5e-3}, "saturation"),
    "next to no noise": ({"latent_dim": 1}, "collapse"),
    "a huge learning rate": ({**MLP, "learning_rate": 1e-2}, "collapse"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", COLLAPSES)
def test_known_collapses_are_flagged(name, tmp_path, capsys):
    changes, kind = COLLAPSES[name]
    run(tmp_path / "m", sets=SETS, **{**SHORT, **changes})
    assert f"train: {kind} at " in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_healthy_trainings_are_not(seed, tmp_path, capsys):
    run(tmp_path / "m", sets=SETS, **SHORT, discriminator_norm="none", r1_gamma=0.1, seed=seed)
    assert " at " not in capsys.readouterr().err

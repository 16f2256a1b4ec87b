"""The duality gap of the Dirac-GAN, whose one equilibrium is (0, 0), by hand; and of a training."""

import math

import pytest
import torch
from runs import noise, run
from toys import Point, Slope, descent, game_state

from ganflow.history import read_history
from ganflow.training.batches import Batch
from ganflow.training.equilibrium import apart, duality_gap, held_out_batch


def value(theta: float, psi: float) -> float:
    """V of the Dirac-GAN with its real image at 0: -log(1 + e^(psi theta)) - log 2."""
    return -math.log1p(math.exp(psi * theta)) - math.log(2)


def gap(theta: float, psi: float, steps: int = 1, **settings: object) -> dict[str, float]:
    plain = descent(0.1, loss="minimax", **settings)
    generator, discriminator = Point(), Slope()
    with torch.no_grad():
        generator.theta.fill_(theta)
        discriminator.psi.fill_(psi)
    state = game_state(generator, discriminator, plain)
    batch = Batch(torch.zeros(2, 1, 1, 1), None, torch.arange(2))
    found = duality_gap(state, [batch] * steps, batch, plain)
    assert (generator.theta.item(), discriminator.psi.item()) == pytest.approx((theta, psi))
    return found


def test_one_step_of_each_best_response_by_hand():
    slope = 1 / (1 + math.exp(-2.0))
    better_psi, better_theta = 1 - 0.1 * slope * 2, 2 + 0.1 * slope * 1
    found = gap(2, 1)
    assert found["gap_d"] == pytest.approx(value(2, better_psi) - value(2, 1), rel=1e-4)
    assert found["gap_g"] == pytest.approx(value(2, 1) - value(better_theta, 1), rel=1e-4)
    assert found["duality_gap"] == pytest.approx(found["gap_d"] + found["gap_g"], rel=1e-4)


def test_there_is_nothing_to_gain_at_the_equilibrium():
    assert gap(0, 0, steps=5) == pytest.approx({"duality_gap": 0, "gap_d": 0, "gap_g": 0}, abs=1e-6)


def test_the_gap_grows_with_the_distance_and_with_the_steps():
    assert gap(1, 1)["duality_gap"] < gap(2, 2)["duality_gap"]
    assert gap(1, 1)["duality_gap"] < gap(1, 1, steps=5)["duality_gap"]


def test_measuring_it_changes_no_number_of_the_training(tmp_path):
    pair = {"generator": "tf2_tutorial", "discriminator": "tf2_tutorial", "total_images": 64, "log_every_images": 32,
            "checkpoint_every_images": 32}  # fmt: skip
    without, measured = run(tmp_path / "a", **pair), run(tmp_path / "b", equilibrium_steps=2, **pair)
    assert without.generator.read_bytes() == measured.generator.read_bytes()
    records = read_history(measured.history)
    assert all(math.isfinite(record["duality_gap"]) for record in records)
    assert read_history(without.history) == [
        {key: value for key, value in record.items() if "gap" not in key} for record in records
    ]


def test_its_latents_are_no_training_steps():
    sets = noise()
    held_out = held_out_batch(sets.held_out, sets.held_out_labels, descent(0.1), torch.device("cpu"))
    ahead = apart(Batch(torch.zeros(2, 1, 1, 1), None, torch.arange(2)))
    assert len(held_out.images) == len(sets.held_out)
    assert not {*held_out.index.tolist()} & {*ahead.index.tolist()}
    assert min(ahead.index.min(), held_out.index.min()) >= 1 << 40

"""Killed at any call of any function, a training goes on to the same bits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "killing.py"
ZERO_CENTRED = {"loss": "relativistic", "discriminator_norm": "none", "r1_gamma": 1.0, "r2_gamma": 1.0}
RUNS = {
    "classic": (1, 5, {}),
    "dropout": (1, 2, {"generator": "tf2_tutorial", "discriminator": "tf2_tutorial", "total_images": 128}),
    "extragradient": (1, 4, {"solver": "extragradient", "loss": "hinge", "discriminator_norm": "spectral"}),
    "optimistic": (1, 4, {"solver": "optimistic", "loss": "wasserstein", "gradient_penalty": "wgan_gp",
                          "generator": "mlp", "discriminator": "cnn", "gradient_penalty_weight": 1.0}),
    "annealed": (1, 4, {**ZERO_CENTRED, "anneal_images": 200, "final_learning_rate": 1e-4, "final_beta2": 0.9,
                        "final_gamma": 0.1, "penalty_every": 2, "equilibrium_steps": 2}),
    "augmented": (1, 4, {"augment": ["color", "translation", "cutout"], "augment_target": 0.6, "discriminator_steps": 2,
                         "augment_adaptation_images": 500, "conditional": True, "solver": "alternating"}),
    "two processes": (2, 4, {**ZERO_CENTRED, "conditional": True}),
    "two processes, batch norm": (2, 3, {"solver": "simultaneous", "loss": "least_squares"}),
}  # fmt: skip
"""Name: number of processes, of deaths, and what differs from a small classic training."""


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_training_that_is_killed_goes_on_to_the_same_bits(name, tmp_path):
    processes, kills, changes = RUNS[name]
    command = [sys.executable, SCRIPT, tmp_path, 0, kills, processes, json.dumps(changes)]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.stdout == f"died {kills} times\n", done.stderr


def test_there_are_twenty_deaths_at_least():
    assert sum(kills for _, kills, _ in RUNS.values()) >= 20

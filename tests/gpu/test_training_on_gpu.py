"""The fast paths against the plain one, on a GPU."""

import pytest
import torch

from ganflow.config import Train
from ganflow.device import exact_algorithms
from ganflow.parallel import World
from ganflow.training.batches import Batches
from ganflow.training.capture import CapturedStep, compile_objectives, make_step
from ganflow.training.state import METRICS, new_state

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

NORMLESS = {"discriminator_norm": "none"}
GAMES = [
    {},
    {**NORMLESS, "loss": "relativistic", "r1_gamma": 1.0, "r2_gamma": 1.0},
    {**NORMLESS, "loss": "wasserstein", "gradient_penalty": "wgan_gp"},
    {"discriminator_norm": "spectral", "loss": "hinge", "augment": ["color", "translation", "cutout"]},
    {**NORMLESS, "r1_gamma": 1.0, "penalty_every": 4, "solver": "extragradient"},
]


class Played:
    def __init__(self, **changes: object) -> None:
        exact_algorithms()
        small = {"width": 8, "latent_dim": 16, "batch_size": 32, "total_images": 1 << 30}
        self.settings = Train.model_validate({**small, **changes})
        random = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (256, 1, 28, 28), dtype=torch.uint8, generator=random).numpy()
        device = torch.device("cuda")
        self.state = new_state(self.settings, {"resolution": 28, "channels": 1, "classes": None}, None, device, "")
        self.step = make_step(self.state, self.settings, World())
        self.batches = Batches(images, None, self.settings, device, World())

    def __call__(self, steps: int) -> "Played":
        for _ in range(steps):
            self.step(self.batches.take(self.state.images))
        return self

    def measured(self) -> dict[str, float]:
        *sums, steps = self.state.sums.tolist()
        return {name: value / steps for name, value in zip(METRICS, sums, strict=True)}


def test_a_set_that_fits_lies_on_the_device():
    assert Played().batches.resident is not None


@pytest.mark.parametrize("changes", GAMES, ids=str)
def test_no_step_waits_for_the_device(changes):
    played = Played(**changes)(5)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        played(5)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("changes", GAMES, ids=str)
def test_captured_steps_give_the_numbers_of_plain_ones(changes):
    plain, captured = Played(**changes), Played(cuda_graphs=True, **changes)
    assert isinstance(captured.step, CapturedStep)
    plain(30)
    captured(30)
    assert captured.measured() == pytest.approx(plain.measured(), rel=1e-4, abs=1e-5)
    assert torch.allclose(plain.state.generator.weights, captured.state.generator.weights, atol=1e-5)


@pytest.mark.parametrize("changes", GAMES, ids=str)
def test_bfloat16_stays_near_float32(changes):
    plain, half = Played(**changes)(20), Played(precision="bfloat16", **changes)(20)
    assert half.measured()["loss_d"] == pytest.approx(plain.measured()["loss_d"], rel=0.05, abs=0.02)


@pytest.mark.parametrize("changes", GAMES[:3], ids=str)
def test_compiled_steps_give_the_numbers_of_plain_ones(changes):
    plain, compiled = Played(**changes), Played(**changes)
    compile_objectives(compiled.step)
    plain(10)
    compiled(10)
    assert compiled.measured() == pytest.approx(plain.measured(), rel=1e-3, abs=1e-4)


def test_the_same_run_gives_the_same_bits():
    one, other = Played()(20), Played()(20)
    assert torch.equal(one.state.generator.weights, other.state.generator.weights)

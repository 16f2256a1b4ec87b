"""What a step does besides the game: no waiting for the device, one pass where D allows, frozen idle networks."""

import numpy as np
import pytest
import torch
from runs import DATA, SMALL, noise
from torch.utils._python_dispatch import TorchDispatchMode

from ganflow.config import Train
from ganflow.parallel import World
from ganflow.training.batches import Batches
from ganflow.training.capture import compile_objectives, make_step
from ganflow.training.state import METRICS, State, new_state

NORMLESS = {"discriminator_norm": "none"}
R3 = {**NORMLESS, "loss": "relativistic", "r1_gamma": 1.0, "r2_gamma": 1.0}
GAMES = [
    {},
    {"loss": "minimax", "label_smoothing": 0.1},
    {"loss": "hinge", "discriminator_norm": "spectral", "feature_matching": 1.0},
    {"loss": "wasserstein", "gradient_penalty": "wgan_gp", **NORMLESS},
    {"loss": "least_squares", "gradient_penalty": "dragan", **NORMLESS, "conditional": True},
    R3,
    {**R3, "conditional": True, "augment": ["color", "translation", "cutout"]},
    {"r1_gamma": 1.0, "penalty_every": 2, **NORMLESS, "augment": ["translation"], "augment_target": 0.6},
    {"solver": "simultaneous", "discriminator": "recurrent", "generator": "recurrent"},
    {"solver": "extragradient", "discriminator": "r3gan", "generator": "r3gan"},
    {"solver": "optimistic", "generator": "mlp", "discriminator": "mlp"},
    {"discriminator_steps": 2, "generator": "cnn", "discriminator": "cnn"},
]


class Played:
    """A state, its step and its batches."""

    def __init__(self, **changes: object) -> None:
        self.settings = Train.model_validate({**SMALL, **changes})
        sets = noise()
        self.state: State = new_state(self.settings, DATA, sets.labels, torch.device("cpu"), "")
        self.step = make_step(self.state, self.settings, World())
        self.batches = Batches(sets.train, sets.labels, self.settings, self.state.device, World())

    def __call__(self, steps: int = 1) -> "Played":
        for _ in range(steps):
            self.step(self.batches.take(self.state.images))
        return self

    def measured(self) -> dict[str, float]:
        *sums, steps = self.state.sums.tolist()
        return {name: value / steps for name, value in zip(METRICS, sums, strict=True)}


class Seen(TorchDispatchMode):
    """Counts the operators that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "equal", "unique")


@pytest.mark.parametrize("changes", GAMES, ids=str)
def test_a_step_never_waits_for_the_device(changes):
    """Operators whose answer the host needs stop a GPU's queue; none may stand in a step, once Adam has begun."""
    played = Played(**changes)(2)
    (batches, due) = played.batches.take(played.state.images), played.step.penalised()
    with Seen() as seen:
        played.step.play(batches, due)
    assert len(seen.names) > 50
    assert not [name for name in seen.names if name.split("::")[1].split(".")[0] in WAITING]


@pytest.mark.parametrize("changes", GAMES, ids=str)
def test_every_game_moves_both_players_and_stays_finite(changes):
    played = Played(**changes)
    before = [player.weights.clone() for player in (played.state.generator, played.state.discriminator)]
    played(3)
    for weights, player in zip(before, (played.state.generator, played.state.discriminator), strict=True):
        assert not torch.equal(weights, player.weights)
    assert played.state.finite()
    assert all(np.isfinite(value) for value in played.measured().values())


def passes(**changes: object) -> list[int]:
    """Images in each forward pass of D in a step."""
    played, counts = Played(generator="mlp", **changes), []
    played.state.discriminator.network.trunk.register_forward_hook(lambda trunk, given, out: counts.append(len(out)))
    played(1)
    return counts


def test_real_and_drawn_images_pass_together_where_d_judges_each_by_itself():
    """32 images for D, 16 for G; under batch norm real and drawn images pass apart."""
    assert passes(discriminator="cnn") == [32, 16]
    assert passes(discriminator="dcgan") == [16, 16, 16]


def test_r1_and_r2_take_no_pass_of_their_own():
    assert passes(discriminator="cnn", loss="hinge", r1_gamma=1.0, r2_gamma=1.0) == [32, 16]
    assert passes(discriminator="cnn", loss="hinge", r1_gamma=1.0) == [16, 16, 16]


def test_the_idle_network_gets_no_gradient():
    played = Played(generator="mlp", discriminator="cnn")(1)
    d_before = played.state.discriminator.gradient.clone()
    batch = played.batches.take(16)[0]
    match = played.step.match
    from ganflow.training.game import Knobs

    knobs = Knobs(played.state.augment_probability, played.state.gamma)
    match.differentiate_g(batch, match.draw(batch, True), knobs)
    assert torch.equal(d_before, played.state.discriminator.gradient)


def test_the_weights_of_a_player_are_views_of_one_tensor():
    player = Played().state.discriminator
    start, size = player.weights.data_ptr(), player.weights.numel() * 4
    for weight in player.network.parameters():
        assert start <= weight.data_ptr() < start + size
        assert weight.grad is not None
    assert sum(weight.numel() for weight in player.network.parameters()) == player.weights.numel()


def test_lazy_penalties_weigh_as_much_on_average():
    """Every fourth update, four times as heavy."""
    played = Played(**NORMLESS, r1_gamma=1.0, penalty_every=4, learning_rate=1e-9)
    every = Played(**NORMLESS, r1_gamma=1.0, learning_rate=1e-9)
    assert [played.step.penalised() for _ in range(1)] == [(True,)]
    assert played(8).measured()["penalty"] == pytest.approx(every(8).measured()["penalty"], rel=0.2)
    assert played.step.penalised() == (True,)
    assert played(1).step.penalised() == (False,)


def test_lazy_penalties_are_in_both_gradients_of_a_look_ahead_or_in_none():
    played = Played(**NORMLESS, r1_gamma=1.0, penalty_every=2, solver="extragradient")
    patterns = []
    for _ in range(4):
        patterns.append(played.step.penalised())
        played(1)
    assert patterns == [(True, True), (False, False)] * 2


def test_the_adaptive_probability_rises_while_d_is_too_sure():
    """D that is right about every real image: the mean sign is 1, above the target, so p grows by images / N a step."""
    sure = Played(augment=["translation"], augment_target=0.1, augment_adaptation_images=160, learning_rate=1e-9)
    with torch.no_grad():
        next(m for m in sure.state.discriminator.network.modules() if isinstance(m, torch.nn.Linear)).bias.fill_(9)
    probabilities = [sure(1).state.augment_probability.item() for _ in range(12)]
    assert probabilities[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert probabilities[-1] == 1


def test_what_a_cpu_cannot_is_said_and_left_out(capsys):
    plain, fast = Played()(2), Played(precision="bfloat16", cuda_graphs=True)(2)
    assert torch.equal(plain.state.generator.weights, fast.state.generator.weights)
    said = capsys.readouterr().err
    assert "train: precision=bfloat16 is not for a CPU; going on in float32" in said
    assert "train: cuda_graphs is for one process on a GPU, and this is 1 on a CPU; going on without" in said


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("changes", [R3, {"loss": "wasserstein", "gradient_penalty": "wgan_gp", **NORMLESS}], ids=str)
def test_a_compiled_step_gives_the_numbers_of_the_plain_one(changes):
    plain, compiled = Played(**changes), Played(**changes)
    compile_objectives(compiled.step)
    plain(4)
    compiled(4)
    expected, found = plain.measured(), compiled.measured()
    for name in ("loss_d", "loss_g", "d_real", "d_fake", "penalty"):
        assert found[name] == pytest.approx(expected[name], rel=1e-3, abs=1e-4), name

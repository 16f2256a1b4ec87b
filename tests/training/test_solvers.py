"""Solvers on games whose answer is known: the Dirac-GAN's equilibrium is (0, 0), and descent-ascent circles it."""

import math
from itertools import pairwise

import pytest
from toys import descent, dirac


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def distances(steps: int, **settings: object) -> list[float]:
    return [math.hypot(*point) for point in dirac(steps, descent(0.3, **{"loss": "minimax", **settings}))]


def test_simultaneous_descent_ascent_by_hand():
    """V = f(psi theta) + f(0), f(t) = -log(1 + e^t): each player moves along its own derivative from the same point."""
    theta, psi = 1.0, 1.0
    for found in dirac(20, descent(0.1, loss="minimax", solver="simultaneous")):
        slope = sigmoid(psi * theta)
        theta, psi = theta + 0.1 * slope * psi, psi - 0.1 * slope * theta
        assert found == pytest.approx((theta, psi), rel=1e-4, abs=1e-5)


def test_alternating_descent_ascent_by_hand():
    """G moves against the D that has already moved."""
    theta, psi = 1.0, 1.0
    for found in dirac(20, descent(0.1, loss="minimax")):
        psi -= 0.1 * sigmoid(psi * theta) * theta
        theta += 0.1 * sigmoid(psi * theta) * psi
        assert found == pytest.approx((theta, psi), rel=1e-4, abs=1e-5)


def test_extragradient_by_hand():
    theta, psi = 1.0, 1.0
    for found in dirac(20, descent(0.1, loss="minimax", solver="extragradient")):
        slope = sigmoid(psi * theta)
        ahead_theta, ahead_psi = theta + 0.1 * slope * psi, psi - 0.1 * slope * theta
        slope = sigmoid(ahead_psi * ahead_theta)
        theta, psi = theta + 0.1 * slope * ahead_psi, psi - 0.1 * slope * ahead_theta
        assert found == pytest.approx((theta, psi), rel=1e-4, abs=1e-5)


def test_optimistic_by_hand():
    """Twice this gradient less the last one; at the first step the last one is zero."""
    theta, psi, last = 1.0, 1.0, (0.0, 0.0)
    for found in dirac(20, descent(0.1, loss="minimax", solver="optimistic")):
        slope = sigmoid(psi * theta)
        now = (0.1 * slope * psi, -0.1 * slope * theta)
        theta, psi, last = theta + 2 * now[0] - last[0], psi + 2 * now[1] - last[1], now
        assert found == pytest.approx((theta, psi), rel=1e-4, abs=1e-5)


def test_descent_ascent_circles():
    """The vector field only rotates: at once the players spiral outwards, in turns they come no nearer."""
    outwards = distances(200, solver="simultaneous")
    assert all(later > earlier for earlier, later in pairwise(outwards))
    in_turns = distances(400)
    assert min(in_turns) > 1
    assert max(in_turns) < 2


@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "extragradient"},
        {"solver": "optimistic"},
        {"r1_gamma": 1.0},
        {"r1_gamma": 1.0, "solver": "simultaneous"},
        {"r2_gamma": 1.0},
        {"r1_gamma": 1.0, "penalty_every": 4},
        {"loss": "non_saturating", "r1_gamma": 1.0},
        {"loss": "relativistic", "r1_gamma": 1.0, "r2_gamma": 1.0},
    ],
    ids=str,
)
def test_these_converge(settings):
    assert distances(500, **settings)[-1] < 0.01


def test_wgan_gp_circles_too():
    """Mescheder et al. 2018, section 2: the penalty centred at one does not converge for the Dirac-GAN."""
    found = distances(1000, loss="wasserstein", gradient_penalty="wgan_gp", gradient_penalty_weight=1.0)
    assert max(found[-100:]) > 0.1


def test_several_steps_of_d_take_batches_of_their_own():
    theta, psi = 1.0, 1.0
    for found in dirac(5, descent(0.1, loss="minimax", discriminator_steps=3)):
        for _ in range(3):
            psi -= 0.1 * sigmoid(psi * theta) * theta
        theta += 0.1 * sigmoid(psi * theta) * psi
        assert found == pytest.approx((theta, psi), rel=1e-4, abs=1e-5)


def test_the_players_have_rates_of_their_own():
    settings = descent(0.1, loss="minimax", solver="simultaneous", discriminator_learning_rate=3e5)
    ((theta, psi),) = dirac(1, settings)
    assert theta == pytest.approx(1 + 0.1 * sigmoid(1), rel=1e-5)
    assert psi == pytest.approx(1 - 0.3 * sigmoid(1), rel=1e-5)


def test_rates_and_penalties_are_annealed_by_half_a_cosine():
    """Half way between the first and the last values after half of the images, and at the last ones from there on."""
    ends = {"anneal_images": 8, "final_learning_rate": 2e4, "final_gamma": 0.5}
    settings = descent(0.1, loss="minimax", solver="simultaneous", r1_gamma=1.0, **ends)
    path = [(1.0, 1.0), *dirac(6, settings)]
    for step, ((theta, psi), found) in enumerate(pairwise(path)):
        left = (1 + math.cos(math.pi * min(step / 4, 1))) / 2
        rate, gamma = 0.02 + 0.08 * left, 0.5 + 0.5 * left
        slope = sigmoid(psi * theta)
        expected = (theta + rate * slope * psi, psi - rate * (slope * theta + gamma * psi))
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)

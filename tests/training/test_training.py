import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import SMALL, StopAfter, assert_same, run, weights, without_outputs
from safetensors.torch import load_file

import ganflow
from ganflow.artifacts import Model, read_json, write_json
from ganflow.config import Train
from ganflow.errors import ArtifactError, Interrupted, TrainingError
from ganflow.history import read_history, run_identity
from ganflow.training.batches import order

GOLDEN = Path(__file__).parent / "golden_losses.json"


@pytest.mark.parametrize("pair", [("dcgan", "dcgan"), ("mlp", "cnn"), ("tf2_tutorial", "tf2_tutorial")])
def test_golden_losses_of_20_steps(tmp_path, pair):
    """A change that should move no number shows the same ones. Rewrite golden_losses.json only when it should."""
    changes = {"generator": pair[0], "discriminator": pair[1], "log_every_images": 16, "label_smoothing": 0.1}
    records = read_history(run(tmp_path / "m", **changes).history)
    golden = json.loads(GOLDEN.read_text())[pair[0]]
    assert [record["images"] for record in records] == list(range(16, 321, 16))
    # Another processor rounds otherwise; twenty steps keep that below a thousandth.
    assert [record["loss_d"] for record in records] == pytest.approx(golden["loss_d"], rel=1e-3)
    assert [record["loss_g"] for record in records] == pytest.approx(golden["loss_g"], rel=1e-3)


def test_the_same_run_gives_the_same_bits(tmp_path):
    assert_same(run(tmp_path / "a"), run(tmp_path / "b"))


def test_another_seed_gives_another_model(tmp_path):
    one, other = run(tmp_path / "a"), run(tmp_path / "b", seed=1)
    assert one.generator.read_bytes() != other.generator.read_bytes()


@pytest.mark.parametrize(
    ("pair", "steps"), [*((("dcgan", "dcgan"), n) for n in (1, 7, 10, 19)), (("tf2_tutorial", "tf2_tutorial"), 7)]
)
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, pair, steps):
    networks = {"generator": pair[0], "discriminator": pair[1]}
    whole = run(tmp_path / "whole", **networks)
    with pytest.raises(Interrupted, match=f"stopped after {steps * 16} images, all saved; `--resume`"):
        run(tmp_path / "cut", stop=StopAfter(steps), **networks)
    assert not Model(tmp_path / "cut").card.exists()
    assert_same(whole, run(tmp_path / "cut", resume=True, **networks))


def test_a_run_that_was_killed_after_a_checkpoint_goes_on_to_the_same_bits(tmp_path):
    """Whatever lies beyond the checkpoint is forgotten: here history and samples of a later time, torn."""
    whole = run(tmp_path / "whole")
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", stop=StopAfter(10))
    without_outputs(Model(tmp_path / "cut"))
    with Model(tmp_path / "cut").history_so_far.open("a") as file:
        file.write('{"images": 240, "loss_d": 9}\n{"images": 2')
    assert_same(whole, run(tmp_path / "cut", resume=True))


def test_a_finished_run_that_was_not_concluded_resumes_at_its_end(tmp_path):
    """The caller was killed after the training; nothing is trained again, and the outputs are the same."""
    whole = run(tmp_path / "whole")
    cut = run(tmp_path / "cut", concluded=False)
    without_outputs(cut)
    run(tmp_path / "cut", resume=True, advance=lambda done, total: pytest.fail("trains again"))
    assert_same(whole, cut)


def test_a_concluded_run_starts_anew(tmp_path):
    model = run(tmp_path / "m")
    without_outputs(model)
    steps = []
    run(tmp_path / "m", resume=True, advance=lambda done, total: steps.append(done))
    assert steps[0] == 16


def test_a_model_without_its_checkpoints_is_still_ours(tmp_path):
    """Checkpoints are no DVC output: after `dvc pull` there are none."""
    model = run(tmp_path / "m")
    shutil.rmtree(model.checkpoints)
    run(tmp_path / "m")


def test_unfinished_states_of_another_run_are_kept(tmp_path, capsys):
    with pytest.raises(Interrupted):
        run(tmp_path / "m", stop=StopAfter(10))
    run(tmp_path / "m", resume=True, seed=1)
    assert (tmp_path / "m" / "checkpoints.old" / "000000160.safetensors").exists()
    assert "starting anew; the unfinished states of another run are kept in" in capsys.readouterr().err


def test_states_of_other_code_are_never_resumed_from(tmp_path):
    with pytest.raises(Interrupted):
        run(tmp_path / "m", stop=StopAfter(10))
    card = tmp_path / "m" / "checkpoints" / "000000160.json"
    write_json(card, read_json(card) | {"identity": run_identity(Train(**SMALL).model_dump(mode="json"), {"other": 1})})
    steps = []
    run(tmp_path / "m", resume=True, advance=lambda done, total: steps.append(done))
    assert steps[0] == 16


def test_the_identity_is_of_parameters_data_and_code(tmp_path):
    """The same sources elsewhere have the same identity; another line of a loss has another."""
    package = Path(ganflow.__file__).parent
    command = "from ganflow.history import run_identity; print(run_identity({}, {}))"
    found = []
    for change in ("", "# changed"):
        copy = tmp_path / f"copy{len(found)}"
        shutil.copytree(package, copy / "ganflow")
        with (copy / "ganflow" / "losses.py").open("a") as file:
            file.write(change)
        environment = {**os.environ, "PYTHONPATH": str(copy)}
        found.append(subprocess.check_output([sys.executable, "-c", command], env=environment, text=True).strip())
    assert found[0] == run_identity({}, {})
    assert found[1] != found[0]


def test_a_damaged_checkpoint_gives_way_to_the_one_before_it(tmp_path):
    whole = run(tmp_path / "whole", checkpoint_every_images=64)
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", checkpoint_every_images=64, stop=StopAfter(14))
    newest = max((tmp_path / "cut" / "checkpoints").glob("*.safetensors"))
    newest.write_bytes(newest.read_bytes()[:-1])
    assert_same(whole, run(tmp_path / "cut", checkpoint_every_images=64, resume=True))


def test_resume_never_goes_on_from_another_run(tmp_path):
    with pytest.raises(Interrupted):
        run(tmp_path / "m", stop=StopAfter(10))
    resumed = run(tmp_path / "m", resume=True, learning_rate=1e-3)
    assert_same(run(tmp_path / "fresh", learning_rate=1e-3), resumed)


def test_divergence_stops_with_the_last_good_checkpoint(tmp_path):
    mad = {"generator": "mlp", "discriminator": "cnn", "width": 2, "learning_rate": 1e6, "log_every_images": 64}
    with pytest.raises(
        TrainingError, match=r"diverged .* by image \d+; the last good state is .*000000016.*learning_rate"
    ):
        run(tmp_path / "m", checkpoint_every_images=16, **mad)
    kept = load_file(tmp_path / "m" / "checkpoints" / "000000016.safetensors")
    assert all(value.isfinite().all() for value in kept.values())
    assert not Model(tmp_path / "m").card.exists()


def test_the_output_folder_of_somebody_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ArtifactError, match="was not written by `ganflow train`"):
        run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_average_is_what_is_kept_and_follows_its_half_life(tmp_path):
    """With a half-life of two batches a step keeps 1/sqrt(2) of the average: two steps by hand."""
    one = weights(run(tmp_path / "one", total_images=16, ema_half_life_images=32))
    two = weights(run(tmp_path / "two", total_images=32, ema_half_life_images=32))
    key = "project.weight"
    expected = one[f"average.{key}"] * 0.5**0.5 + two[f"generator.network.{key}"] * (1 - 0.5**0.5)
    assert torch.allclose(two[f"average.{key}"], expected, atol=1e-7)
    assert torch.equal(load_file(tmp_path / "two" / "generator.safetensors")[key], two[f"average.{key}"])


def test_sampling_in_between_changes_nothing(tmp_path):
    """pytorch/examples pollutes the running statistics by sampling in train mode; here no number may move."""
    often, never = (
        run(tmp_path / "a", sample_every_images=16),
        run(tmp_path / "b", sample_every_images=10**6),
    )
    first, second = weights(often), weights(never)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_an_epoch_shows_every_image_once_whatever_the_batch():
    n = 100
    assert sorted(order(n, 0, 0, n)) == list(range(n))
    assert sorted(order(n, 0, n, n)) == list(range(n))
    assert list(order(n, 0, 0, n)) != list(order(n, 0, n, n))
    whole = order(n, 0, 0, 250)
    assert list(np.concatenate([order(n, 0, first, 25) for first in range(0, 250, 25)])) == list(whole)

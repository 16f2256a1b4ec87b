"""What happens between steps: the best state is kept, alarms act, a full disk ends nothing."""

import re
import resource

import pytest
import torch
from runs import DATA, SMALL, Script, StopAfter, assert_same, noise, run, weights, without_outputs
from safetensors.torch import load_file

from ganflow.artifacts import Model, read_json
from ganflow.config import Train
from ganflow.errors import ArtifactError, ConfigError, Interrupted, TrainingError
from ganflow.history import read_history
from ganflow.parallel import World
from ganflow.training import begin, checkpoint, train
from ganflow.training.batches import Batches
from ganflow.training.state import new_state
from ganflow.training.step import Step

EVERY = {"checkpoint_every_images": 64}


def states(model) -> list[str]:
    return sorted(path.name for path in model.checkpoints.glob("*.safetensors"))


def test_the_best_state_is_kept_and_not_the_last(tmp_path):
    judge = Script(at_64=9, at_128=3, at_192=5, at_256=3, at_320=4)
    model = run(tmp_path / "m", judge=judge, concluded=False, **EVERY)
    assert states(model) == ["000000128.safetensors", "000000256.safetensors", "000000320.safetensors"]
    best = load_file(model.checkpoints / "000000128.safetensors")
    kept = load_file(model.generator)
    assert all(torch.equal(kept[key], best[f"average.{key}"]) for key in kept)
    card = model.read_card()
    assert (card["images_seen"], card["images_trained"], card["online_fid"]) == (128, 320, 3)
    assert [r[judge.name] for r in read_history(model.history) if judge.name in r] == [9, 3, 5, 3, 4]


def test_without_a_judge_the_last_state_is_kept(tmp_path):
    model = run(tmp_path / "m", **EVERY)
    kept, last = load_file(model.generator), weights(model)
    assert all(torch.equal(kept[key], last[f"average.{key}"]) for key in kept)
    assert model.read_card()["online_fid"] is None


def test_the_online_fid_can_be_switched_off(tmp_path):
    assert run(tmp_path / "m", judge=Script(), online_fid_images=0).read_card()["images_seen"] == 320


def test_a_stopped_run_keeps_its_best_state_too(tmp_path):
    scores = {"at_64": 2, "at_128": 3, "at_192": 5, "at_256": 4, "at_320": 3}
    whole = run(tmp_path / "whole", judge=Script(**scores), **EVERY)
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", judge=Script(**scores), stop=StopAfter(15), **EVERY)
    assert_same(whole, run(tmp_path / "cut", resume=True, judge=Script(**scores), **EVERY))
    assert whole.read_card()["images_seen"] == 64


DIVERGING = {f"at_{16 * (i + 1)}": 1 if i == 2 else 2 + i for i in range(60)}
OFTEN = {"checkpoint_every_images": 16, "total_images": 480, "ema_half_life_images": 8}


def test_an_alarm_warns_in_one_sentence(tmp_path, capsys):
    run(tmp_path / "m", judge=Script(**DIVERGING), **OFTEN)
    said = capsys.readouterr().err
    assert re.search(r"^train: .*fid_online_script_4.*1\.5", said, re.MULTILINE)


def test_an_alarm_stops_and_names_the_best_state(tmp_path):
    with pytest.raises(TrainingError, match=r"at \d+ images: .*the best state is .*000000048.*train\.alarm=warn"):
        run(tmp_path / "m", judge=Script(**DIVERGING), alarm="stop", **OFTEN)
    with pytest.raises(TrainingError, match="the best state is"):  # resumed, it stands before the same alarm
        run(tmp_path / "m", judge=Script(**DIVERGING), alarm="stop", resume=True, **OFTEN)


def test_an_alarm_goes_back_to_the_best_state_at_half_the_rate(tmp_path, capsys):
    model = run(tmp_path / "m", judge=Script(**DIVERGING), alarm="back", concluded=False, **OFTEN)
    assert "train: back to the weights of 48 images, at half the learning rate" in capsys.readouterr().err
    last = load_file(model.checkpoints / "000000480.safetensors")
    assert last["pace"] < 1
    assert read_json(model.card)["images_seen"] == 48


def test_a_state_is_taken_back_where_it_lies(tmp_path):
    """A captured step reads weights and Adam's moments where they were captured."""
    settings = Train.model_validate({**SMALL, "solver": "optimistic"})
    sets, device = noise(), torch.device("cpu")
    state = new_state(settings, DATA, sets.labels, device, "")
    step, batches = Step(state, settings, World()), Batches(sets.train, None, settings, device, World())
    step(batches.take(0))
    kept, places = state.tensors(), {key: value.data_ptr() for key, value in state.live().items()}
    step(batches.take(16))
    batches.close()
    state.load_players(kept)
    assert {key: value.data_ptr() for key, value in state.live().items()} == places
    assert all(torch.equal(value, kept[key]) for key, value in state.live().items() if key != "sums")


def test_a_run_that_went_back_and_was_stopped_goes_on_to_the_same_bits(tmp_path):
    settings = {"judge": Script(**DIVERGING), "alarm": "back", **OFTEN}
    whole = run(tmp_path / "whole", **settings)
    with pytest.raises(Interrupted):
        run(tmp_path / "cut", stop=StopAfter(20), **settings)
    without_outputs(whole.__class__(tmp_path / "cut"))
    assert_same(whole, run(tmp_path / "cut", resume=True, **settings))


def test_a_full_disk_costs_a_checkpoint_and_not_the_training(tmp_path, capsys):
    """A file may grow to 20 kB only, as on a disk with so much left, from image 100 to image 200."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(done: int, total: int) -> None:
        soft = 20_000 if 100 < done < 200 else unlimited[0]
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, unlimited[1]))

    whole = run(tmp_path / "whole", **EVERY)
    try:
        model = run(tmp_path / "m", advance=fill, **EVERY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    said = capsys.readouterr().err
    assert "the checkpoint at 128 images could not be written" in said
    assert re.search("the last one is .*000000064.safetensors; free some space", said)
    assert_same(whole, model)
    assert not [path.name for path in model.checkpoints.iterdir() if "partial" in path.name]


def test_a_damaged_best_state_is_never_taken_for_the_model(tmp_path):
    judge = Script(at_64=1, at_128=3, at_192=5, at_256=3, at_320=4)
    with pytest.raises(Interrupted):
        run(tmp_path / "m", judge=judge, stop=StopAfter(14), **EVERY)
    best = tmp_path / "m" / "checkpoints" / "000000064.safetensors"
    best.write_bytes(best.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"000000064.safetensors is damaged: its sha256 is not the card's"):
        checkpoint.load(best)
    assert run(tmp_path / "m", judge=judge, resume=True, **EVERY).read_card()["images_seen"] == 256


def test_states_that_were_scored_against_another_reference_are_never_resumed_from(tmp_path, capsys):
    sets, settings, out = noise(), Train.model_validate({**SMALL, **EVERY}), Model(tmp_path / "m")
    state = begin(DATA, sets, settings, out, True, reference="a")
    with pytest.raises(Interrupted):
        train(state, sets, DATA, settings, out, stop=StopAfter(10))
    warned = settings.model_copy(update={"alarm": "stop"})
    assert begin(DATA, sets, warned, out, True, reference="a").images == 160  # the policy on alarms is no number
    assert begin(DATA, sets, settings, out, True, reference="b").images == 0
    assert "starting anew" in capsys.readouterr().err


def test_a_set_smaller_than_a_batch_trains(tmp_path):
    few = noise(5)
    model = run(tmp_path / "m", sets=few)
    assert all(0 < record["effective_rank_ratio"] < 20 for record in read_history(model.history))


def test_conditional_training_needs_labels(tmp_path):
    sets = noise()
    unlabelled = type(sets)(sets.train, None, sets.held_out, None)
    with pytest.raises(ConfigError, match="train.conditional needs labels, and this data has none"):
        run(tmp_path / "m", sets=unlabelled, conditional=True)

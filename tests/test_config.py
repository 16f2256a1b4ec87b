from pathlib import Path

import pytest
import yaml

from ganflow.config import Params, Train, load, parse
from ganflow.errors import ConfigError

ROOT = Path(__file__).parent.parent


def test_params_yaml_names_every_knob_and_is_valid():
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    assert values == load(ROOT / "params.yaml").model_dump(by_alias=True)
    assert load(ROOT / "params.yaml") == Params(), "the defaults in config.py and params.yaml differ"


def test_overrides_are_yaml_and_win():
    params = load(ROOT / "params.yaml", ["train.seed=7", "data.classes=[Bag, Coat]", "promote.max_fid=30"])
    assert params.train.seed == 7
    assert params.data.classes == ["Bag", "Coat"]
    assert params.promote.max_fid == 30


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.learning_rat=1", r"train\.learning_rat is not a parameter; did you mean learning_rate\?"),
        ("trian.seed=1", r"trian is not a parameter; did you mean train\?"),
        ("train.batch_size=1", r"train\.batch_size is 1: .*greater than or equal to 2"),
        ("train.generator=vae", r"train\.generator is 'vae': input should be 'dcgan', 'mlp', .* or 'tf2_tutorial'"),
        ("train.total_images=5", r"total_images is 5, less than one step; raise it to 64"),
        ("train.learning_rate=.nan", r"train\.learning_rate is nan"),
        ("data.resolution=30", r"data\.resolution is 30: input should be 28, 32, 64, 128 or 256"),
        ("data.held_out=1.5", r"data\.held_out"),
        ("register.name=a/b", r"register\.name is 'a/b'"),
        ("seed=1", r"--set 'seed=1' is not of the form section\.key=value"),
        ("train.seed", r"--set 'train\.seed' is not of the form section\.key=value"),
    ],
)
def test_a_bad_override_is_one_sentence(override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load(ROOT / "params.yaml", [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"loss": "hinge", "label_smoothing": 0.1},
            "label_smoothing is of minimax and non_saturating, and the loss is",
        ),
        ({"loss": "wasserstein"}, "the loss wasserstein needs a bounded slope of D; set gradient_penalty=wgan_gp"),
        ({"r1_gamma": 1}, "undefined under batch norm.*set discriminator_norm=none or spectral"),
        ({"gradient_penalty": "dragan"}, "undefined under batch norm"),
        ({"penalty_every": 4}, "penalty_every is 4, and there is no penalty; set r1_gamma"),
        ({"discriminator_steps": 2, "solver": "optimistic"}, "discriminator_steps is 2, and the solver optimistic"),
        ({"augment_target": 0.6}, "augment_target is set, and there is nothing to augment with"),
        (
            {"augment": ["color"], "augment_target": 0.6, "loss": "relativistic"},
            "sign of D's logits, which says nothing",
        ),
        (
            {"alarm": "back", "online_fid_images": 0},
            "alarm=back goes back to the best state, which online_fid_images=0",
        ),
        ({"online_fid_images": 1}, "one image has no covariance; set it to 2000"),
        ({"anneal_images": 1000}, "anneal_images and at least one of final_learning_rate, .* go together"),
        ({"final_beta2": 0.9}, "anneal_images and at least one of"),
        ({"anneal_images": 9, "final_gamma": 0.1}, "final_gamma is set, and there is no r1_gamma or r2_gamma"),
        ({"anneal_images": 9, "final_beta2": 0.9, "cuda_graphs": True}, "a captured step repeats its beta2"),
        ({"discriminator": "tf2_tutorial", "cuda_graphs": True}, "the dropout of tf2_tutorial draws new numbers"),
        ({"total_images": 100, "discriminator_steps": 2}, "total_images is 100, less than one step; raise it to 128"),
        ({"total_images": 100, "solver": "extragradient"}, "less than one step; raise it to 128"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_by_name(changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse(Train, changes, "train")
    assert "\n" not in str(caught.value)


def test_what_makes_sense_is_not():
    for changes in (
        {"loss": "wasserstein", "discriminator_norm": "spectral"},
        {"loss": "wasserstein", "gradient_penalty": "wgan_gp", "discriminator": "cnn"},
        {"r1_gamma": 1, "discriminator_norm": "none", "penalty_every": 4},
        {"label_smoothing": 0.1, "loss": "minimax"},
    ):
        parse(Train, changes, "train")


def test_a_bad_file_is_one_sentence(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the parameter file .*give one with --params"):
        load(tmp_path / "none.yaml")
    (tmp_path / "broken.yaml").write_text("train: [")
    with pytest.raises(ConfigError, match="is not YAML"):
        load(tmp_path / "broken.yaml")
    (tmp_path / "list.yaml").write_text("[1]")
    with pytest.raises(ConfigError, match="holds list, not sections"):
        load(tmp_path / "list.yaml")
    (tmp_path / "scalar.yaml").write_text("train: 3")
    with pytest.raises(ConfigError, match=r"train is 3"):
        load(tmp_path / "scalar.yaml")


def test_a_section_crosses_as_json_text_unchanged():
    settings = Params().train
    assert parse(Train, settings.json_text(), "train") == settings
    assert '"batch_size": 64,' in settings.json_text()


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_name_only_what_differs(path):
    assert yaml.safe_load(path.read_text()).keys() <= Params().model_dump(by_alias=True).keys()
    for section, values in yaml.safe_load(path.read_text()).items():
        defaults = Params().model_dump(by_alias=True)[section]
        assert values == differing(load(path).model_dump(by_alias=True)[section], defaults)


def differing(made: dict, defaults: dict) -> dict:
    """What differs from the defaults; of a section within, what differs there."""
    return {
        key: differing(value, defaults[key]) if isinstance(value, dict) and defaults[key] else value
        for key, value in made.items()
        if value != defaults[key]
    }

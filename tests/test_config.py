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
        ("train.generator=vae", r"train\.generator is 'vae': input should be 'dcgan', 'mlp' or 'tf2_tutorial'"),
        ("train.total_images=5", r"total_images is 5, less than one batch; raise it to 64"),
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
def test_recipes_are_complete_and_valid(path):
    assert yaml.safe_load(path.read_text()) == load(path).model_dump(by_alias=True)

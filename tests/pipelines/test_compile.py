"""`ganflow pipeline compile`: profiles, images, and bad usage."""

from pathlib import Path

import pytest
import yaml

from ganflow.cli import main
from ganflow.errors import ConfigError
from ganflow.resources import Profile, Toleration
from pipelines.compile import require_digests
from pipelines.ir import read

ROOT = Path(__file__).parents[2]
DIGEST = f"@sha256:{'0' * 64}"
PINNED = ["--image", f"r.example/ganflow{DIGEST}", "--small-image", f"r.example/small{DIGEST}"]


def compile_(out: Path, *more: str) -> int:
    return main(["pipeline", "compile", "--params", str(ROOT / "params.yaml"), "--out", str(out), *more])


def test_a_tag_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "training.yaml"
    assert compile_(out) == 2
    said = capsys.readouterr().err
    assert "the image ganflow:0.1.0 is named by a tag, which can move; name it by its digest" in said
    assert said.count("\n") == 1
    assert not out.exists()
    assert compile_(out, *PINNED[:2]) == 2
    assert compile_(out, *PINNED) == 0
    images = {place.container["image"] for place in read(out).places() if place.container}
    assert images == set(PINNED[1::2])


def test_a_profile_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compile_(tmp_path / "x.yaml", *PINNED, "--profile", "tpu") == 2
    assert "there is no profile tpu; resources.profiles has cpu, gpu, multi-gpu, multi-node" in capsys.readouterr().err


def test_resources_come_from_params_and_the_command_line(tmp_path: Path) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["resources"]["profiles"]["big"] = params["resources"]["profiles"]["gpu"] | {
        "accelerators": 2,
        "node_selector": {"pool": "a100"},
        "tolerations": [{"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoExecute"}],
    }
    params["resources"]["image_pull_secrets"] = ["registry"]
    file = tmp_path / "params.yaml"
    file.write_text(yaml.safe_dump(params))
    out = tmp_path / "big.yaml"
    command = ["pipeline", "compile", "--params", str(file), "--out", str(out), "--profile", "big", *PINNED]
    assert main([*command, "--set", "resources.profiles.big.memory=64Gi", "--set", "resources.retries=5"]) == 0
    [train] = [place for place in read(out).places() if place.path[-1] == "train"]
    assert train.container
    assert train.container["resources"]["resourceMemoryLimit"] == "64Gi"
    assert train.container["resources"]["accelerator"]["resourceCount"] == "2"
    assert train.task["retryPolicy"]["maxRetryCount"] == 5
    assert train.kubernetes["nodeSelector"] == {"labels": {"pool": "a100"}}
    assert train.kubernetes["tolerations"] == [
        {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoExecute"}
    ]
    assert train.kubernetes["imagePullSecret"][0]["secretName"] == "registry"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("resources.profiles.gpu.memory=lots", r"resources\.profiles\.gpu\.memory is 'lots'"),
        ("resources.profiles.gpu.memry=8Gi", r"memry is not a parameter"),
        ("resources.profiles.gpu.accelerator=null", "accelerator and accelerators go together"),
        ("resources.profiles.cpu.nodes=0", r"nodes is 0"),
        ("resources.profiles.cpu.shards=99", r"shards is 99"),
        ("resources.deadline_seconds=0", r"deadline_seconds is 0"),
        ("resources.s3_secret=Not A Name", r"s3_secret is 'Not A Name'"),
    ],
)
def test_impossible_resources_are_one_sentence(
    override: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compile_(tmp_path / "x.yaml", *PINNED, "--set", override) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    with pytest.raises(ConfigError, match=message):
        raise ConfigError(said)


def test_digests_are_asked_for() -> None:
    require_digests(f"a{DIGEST}")
    with pytest.raises(ConfigError, match="the image a:latest is named by a tag"):
        require_digests(f"a{DIGEST}", "a:latest")


def test_a_toleration_is_kubernetes_own() -> None:
    assert Profile(tolerations=[Toleration(key="a")]).tolerations[0].operator == "Exists"

"""`ganflow pipeline submit`: the data pin, the version, the experiment, the run; each made once, whatever breaks."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, shell
from kfp_api import Fault, State

from ganflow.cli import main
from ganflow.pin import read_pin
from pipelines.submit import data_pin

DIGEST = f"@sha256:{'0' * 64}"
PINNED = ["--image", f"r.example/ganflow{DIGEST}", "--small-image", f"r.example/small{DIGEST}"]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a set that DVC keeps, and a remote."""
    folder = tmp_path_factory.mktemp("repository")
    shell(folder, "dvc", "init", "--no-scm", "--quiet")
    shell(folder, "dvc", "remote", "add", "--default", "store", "s3://bucket/dvc")
    (folder / "raw").mkdir()
    (folder / "raw" / "a.txt").write_text("a")
    shell(folder, "dvc", "add", "--quiet", "raw")
    (folder / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return folder


@pytest.fixture(autouse=True)
def _in_the_repository(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)


def submit(*more: str) -> int:
    return main(["pipeline", "submit", "raw", *PINNED, *more])


def test_a_run_is_made_of_all_that_is_needed(kfp: State, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit("--profile", "gpu", "--set", "train.seed=7", "--experiment", "shoes") == 0
    out, err = capsys.readouterr()
    [run], [version], [experiment] = kfp.runs, kfp.versions, kfp.experiments
    assert out == f"{run.run_id}\n"
    assert err.strip().endswith(f"/#/runs/details/{run.run_id}")
    assert experiment.display_name == "shoes"
    assert run.experiment_id == experiment.experiment_id
    assert run.service_account == "ganflow"
    reference = run.pipeline_version_reference
    assert (reference.pipeline_id, reference.pipeline_version_id) == (version.pipeline_id, version.pipeline_version_id)
    given = run.runtime_config.parameters
    assert set(given) == {"raw", "data", "train", "evaluate", "register", "promote"}
    assert json.loads(given["train"])["seed"] == 7
    pin = read_pin(given["raw"])
    assert (pin.path, pin.remote, pin.files) == ("raw", "s3://bucket/dvc", 1)
    spec, platform = yaml.safe_load_all(kfp.packages[version.display_name])
    assert PINNED[1] in {one["container"]["image"] for one in spec["deploymentSpec"]["executors"].values()}
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert executors["exec-train"]["tolerations"]


def test_the_same_again_makes_only_a_run(kfp: State) -> None:
    assert submit() == submit() == 0
    assert (len(kfp.pipelines), len(kfp.versions), len(kfp.experiments), len(kfp.runs)) == (1, 1, 1, 2)
    assert submit("--profile", "gpu") == 0
    assert (len(kfp.pipelines), len(kfp.versions)) == (1, 2)


@pytest.mark.parametrize("kind", [500, 503, "drop", "lose"])
@pytest.mark.parametrize("path", ["/pipelines", "/upload_version", "/experiments", "/runs"])
def test_nothing_is_made_twice_whatever_breaks(kfp: State, path: str, kind: Any) -> None:
    """The fault hits the POST alone: a lost answer has done its work."""
    kfp.faults.append(Fault(f"POST {path}", kind))
    assert submit() == 0
    assert (len(kfp.pipelines), len(kfp.versions), len(kfp.experiments), len(kfp.runs)) == (1, 1, 1, 1)


def test_a_dry_run_asks_nobody(kfp: State, capsys: pytest.CaptureFixture[str]) -> None:
    assert submit("--dry-run") == 0
    order = json.loads(capsys.readouterr().out)
    assert order["pipeline"] == "training"
    assert read_pin(order["arguments"]["raw"]).files == 1
    assert kfp.requests == []


def test_waiting_says_how_it_ended(kfp: State, capsys: pytest.CaptureFixture[str]) -> None:
    kfp.script = ["SUCCEEDED"]
    assert submit("--wait") == 0
    kfp.script = ["FAILED"]
    assert submit("--wait") == 1
    assert "failed" in capsys.readouterr().err


def test_a_pin_is_taken_as_it_is_and_from_its_file(kfp: State, tmp_path: Path) -> None:
    assert submit() == 0
    pin = kfp.runs[0].runtime_config.parameters["raw"]
    assert main(["pipeline", "submit", pin, *PINNED]) == 0
    assert kfp.runs[1].runtime_config.parameters["raw"] == pin
    (tmp_path / "pin.json").write_text(pin)
    assert main(["pipeline", "submit", str(tmp_path / "pin.json"), *PINNED]) == 0
    assert kfp.runs[2].runtime_config.parameters["raw"] == pin


def test_a_pin_that_is_none_is_refused_before_anything_is_sent(kfp: State, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", "submit", "{}", *PINNED]) == 1
    assert "this is no pin" in capsys.readouterr().err
    assert kfp.requests == []


def test_data_in_a_folder_of_this_machine_is_refused_before_anything_is_sent(
    kfp: State, capsys: pytest.CaptureFixture[str]
) -> None:
    pin = read_pin(data_pin("raw"))
    for remote in ("/home/me/remote", "file:///home/me/remote"):
        text = pin.model_copy(update={"remote": remote}).model_dump_json()
        assert main(["pipeline", "submit", text, *PINNED, "--dry-run"]) == 2
        said = capsys.readouterr().err
        assert f"raw is pinned at {remote}, a folder of one machine that no pod sees" in said
        assert "dvc remote add --local --default NAME s3://" in said
    shell(Path(), "dvc", "remote", "add", "--local", "--default", "folder", "remote")
    try:
        assert submit() == 2
    finally:
        Path(".dvc/config.local").unlink()
    assert "/remote, a folder of one machine" in capsys.readouterr().err
    assert kfp.requests == []


def test_what_dvc_does_not_keep_is_refused(kfp: State, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pipeline", "submit", "nowhere", *PINNED]) == 1
    assert "DVC does not track nowhere" in capsys.readouterr().err
    assert main(["pipeline", "submit", "raw"]) == 2
    assert kfp.requests == []

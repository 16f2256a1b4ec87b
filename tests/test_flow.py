"""The whole flow for real, on a tiny set: dvc, the registry, the gate, and kfp.local beside them."""

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import ROOT, shell, start

pytestmark = pytest.mark.slow

LOAD = """
import importlib.util, json, sys
import numpy as np
sys.path = [path for path in sys.path if not path.startswith(ROOT) or "site-packages" in path or "/lib/" in path]
assert importlib.util.find_spec("ganflow") is None, "this process must not see the checkout"

def no_pickles(event, arguments):
    if event == "pickle.find_class":
        raise RuntimeError(f"unpickles {arguments}")

import mlflow, pandas, torch
sys.addaudithook(no_pickles)
model = mlflow.pyfunc.load_model("models:/tiny@candidate")
images = model.predict(pandas.DataFrame({"seed": [7, 8], "count": [70, 3]}))
import ganflow
assert "/mlruns/" in ganflow.__file__, ganflow.__file__
assert model.metadata.signature is not None
np.save("served.npy", images)
"""


def lock(project: Path) -> dict[str, str]:
    """md5 by output, of the last repro."""
    stages = yaml.safe_load((project / "dvc.lock").read_text())["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}


def set_params(project: Path, **train: int) -> None:
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["train"] |= train
    path.write_text(yaml.safe_dump(params))


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    """A project of one's own, to damage; MLflow's store has absolute paths, which go along."""
    folder = tmp_path / "copy"
    shutil.copytree(project, folder, symlinks=True)
    with sqlite3.connect(folder / "mlflow.db") as store:
        for table, column in (
            ("experiments", "artifact_location"),
            ("runs", "artifact_uri"),
            ("logged_models", "artifact_location"),
            ("model_versions", "storage_location"),
        ):
            store.execute(f"update {table} set {column} = replace({column}, ?, ?)", [str(project), str(folder)])
    return folder


def test_nothing_to_do_is_said(project):
    assert "Data and pipelines are up to date." in shell(project, "dvc", "repro")


def test_force_gives_the_same_bits(project):
    before = lock(project)
    shell(project, "dvc", "repro", "--force")
    assert lock(project) == before


def test_kfp_local_gives_the_same_scores_bit_for_bit(project, copy, tmp_path):
    said = shell(copy, "ganflow", "pipeline", "run", "data/fashion-mnist", "--out", str(tmp_path / "kfp"), "--json")
    outputs = json.loads(said[said.rindex('{"outputs"') :])["outputs"]
    for step, name in {
        "prepare": "images.npy",
        "train": "generator.safetensors",
        "evaluate": "scores.json",
    }.items():
        ours = {"prepare": "prepared", "train": "model", "evaluate": "evaluation"}[step]
        assert (Path(outputs[step]) / name).read_bytes() == (project / "run" / ours / name).read_bytes(), name


def test_the_run_holds_what_was_done(project):
    with sqlite3.connect(project / "mlflow.db") as store:
        run = json.loads((project / "run/registration.json").read_text())["run_id"]

        def column(table: str, where: str = "") -> dict[str, str]:
            query = f"select key, value from {table} where run_uuid = ? {where}"
            return dict(store.execute(query, [run]).fetchall())

        tags, params = column("tags"), column("params")
        steps = store.execute("select step from metrics where run_uuid = ? and key = 'loss_d'", [run]).fetchall()
        dataset = store.execute("select name, digest from datasets").fetchall()
        status = store.execute("select status from runs where run_uuid = ?", [run]).fetchone()
    card = json.loads((project / "run/prepared/dataset.json").read_text())
    assert status == ("FINISHED",)
    assert params["learning_rate"] == "0.001"
    assert tags["ganflow.data_md5"] == card["raw_md5"]
    assert len(tags["ganflow.parameters_sha256"]) == 64
    assert sorted(step for (step,) in steps) == [160, 320, 480, 640]
    assert dataset == [("fashion-mnist", card["raw_md5"])]
    artifacts = next((project / "mlruns").glob(f"*/{run}/artifacts"))
    found = {path.relative_to(artifacts).as_posix() for path in artifacts.rglob("*") if path.is_file()}
    assert {
        "train/generator.safetensors",
        "train/000000640.safetensors",
        "evaluation/report.html",
        "passport.json",
    } <= found
    assert any(re.match(r"images/samples.*step.*640.*\.png", name) for name in found)
    passport = json.loads((artifacts / "passport.json").read_text())
    assert passport.pop("trained")["generator_sha256"] == passport["generator_sha256"]
    assert passport == json.loads((project / "run/evaluation/scores.json").read_text())["passport"]


def test_the_registered_model_serves_the_bytes_that_sample_gives(project):
    shell(project, "python", "-W", "ignore", "-c", LOAD.replace("ROOT", repr(str(ROOT)), 1))
    served = np.load(project / "served.npy")
    assert served.dtype == np.uint8
    assert served.shape == (73, 1, 28, 28)
    for first, count, seed in ((0, 70, 7), (70, 3, 8)):
        for model in ("run/model", "models:/tiny@candidate"):
            shell(project, "ganflow", "sample", model, "-n", str(count), "--seed", str(seed), "--out", "ours.npy")
            assert np.array_equal(served[first : first + count], np.load(project / "ours.npy"))


def test_the_gate_promotes_refuses_and_promotes(copy):
    """Three real models: a first champion, the same trained for less (worse), and one trained for more (better)."""
    assert "promoted: there is no champion yet" in shell(copy, "ganflow", "promote")
    assert "unchanged: version 1 is the champion already" in shell(copy, "ganflow", "promote")
    for images, word, code in ((64, "refused", 3), (6400, "promoted", 0)):
        set_params(copy, total_images=images)
        shell(copy, "dvc", "repro", "--quiet")
        assert f"{word}: fid_classifier_256" in shell(copy, "ganflow", "promote", "--dry-run", code=code)
        said = shell(copy, "ganflow", "promote", code=code)
        assert f"{word}: fid_classifier_256" in said
    decision = json.loads(shell(copy, "ganflow", "promote", "--json"))
    assert (decision["verdict"], decision["candidate"]["version"]) == ("unchanged", "3")


def test_a_champion_of_another_protocol_is_measured_again(copy):
    """The candidate is of another count; the champion is measured again under it, where the reference is there."""
    shell(copy, "ganflow", "promote")
    params = yaml.safe_load((copy / "params.yaml").read_text())
    params["evaluate"]["count"] = 320
    params["train"]["total_images"] = 6400
    (copy / "params.yaml").write_text(yaml.safe_dump(params))
    shell(copy, "dvc", "repro", "--quiet")
    said = shell(copy, "ganflow", "promote", "--dry-run", "--reference", "nowhere", code=3)
    assert "generated_count is 256 there and 320 here" in said
    before = json.loads((copy / "run/decision.json").read_text())["candidate"]["fid"]
    assert "promoted: fid_classifier_320" in shell(copy, "ganflow", "promote")
    champion = json.loads((copy / "run/decision.json").read_text())["champion"]
    assert champion["version"] == "1"
    assert champion["protocol"]["generated_count"] == 320
    assert champion["fid"] != before
    assert "verified: 2 records" in shell(copy, "ganflow", "history", "--verify")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_stopped_repro_goes_on_in_the_same_run_to_the_same_bits(copy, tmp_path, number):
    """A real training under dvc, stopped in the middle by a signal, and the same command again."""
    set_params(copy, total_images=9600, seed=5 + number)
    shutil.copytree(copy, tmp_path / "whole", symlinks=True)
    shell(tmp_path / "whole", "dvc", "repro", "train", MLFLOW_EXPERIMENT_NAME="whole")
    history = copy / "run/model/checkpoints/history.jsonl"
    process = start(copy, "dvc", "repro", "train", MLFLOW_EXPERIMENT_NAME="cut")
    while not history.exists() or len(history.read_text().splitlines()) < 8:
        assert process.poll() is None
        time.sleep(0.05)
    [training] = [pid for pid in pids("ganflow train") if Path(f"/proc/{pid}/cwd").readlink() == copy]
    os.kill(training, number)
    said, _ = process.communicate()
    assert process.returncode != 0, "dvc must not record a training that has not ended"
    assert number == signal.SIGKILL or "all saved; `--resume` goes on from there" in said
    assert "train: going on after" in shell(copy, "dvc", "repro", "train", MLFLOW_EXPERIMENT_NAME="cut")
    assert lock(copy) == lock(tmp_path / "whole")
    with sqlite3.connect(copy / "mlflow.db") as store, sqlite3.connect(tmp_path / "whole" / "mlflow.db") as other:
        [(cut, status)], [(whole, _)] = points(store, "cut", RUNS), points(other, "whole", RUNS)
        assert status == "FINISHED"
        assert points(store, cut, LOSSES) == points(other, whole, LOSSES)


RUNS = "select run_uuid, status from runs join experiments using (experiment_id) where experiments.name = ?"
LOSSES = "select key, step, value from metrics where run_uuid = ? and key like 'loss%' order by key, step"


def points(store: sqlite3.Connection, argument: str, query: str) -> list[tuple[object, ...]]:
    return store.execute(query, [argument]).fetchall()


def pids(command: str) -> list[int]:
    """Processes whose command line has `command` as words."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if f"/{command}" in words and "sh -c" not in words:
                found.append(int(folder.name))
    return found


def test_two_trainings_in_one_folder_keep_their_own_last_state(copy):
    set_params(copy, seed=1)
    shell(copy, "dvc", "repro", "train")
    with sqlite3.connect(copy / "mlflow.db") as store:
        runs = store.execute("select run_uuid from runs order by start_time desc").fetchall()
    kept = [next(copy.glob(f"mlruns/*/{run}/artifacts/train/000000640.safetensors")) for (run,) in runs[:2]]
    assert kept[0].read_bytes() != kept[1].read_bytes()
    assert kept[0].read_bytes() == (copy / "run/model/checkpoints/final.safetensors").read_bytes()


def test_going_back_to_old_parameters_makes_the_old_version_the_candidate(copy):
    """DVC would skip `register` from its run cache, and the alias would stay where it was."""
    set_params(copy, seed=1)
    shell(copy, "dvc", "repro")
    set_params(copy, seed=0)
    shell(copy, "dvc", "repro")
    assert json.loads((copy / "run/registration.json").read_text())["version"] == "1"
    assert json.loads(shell(copy, "ganflow", "promote", "--json"))["candidate"]["version"] == "1"


def test_registering_again_is_the_same_version(copy):
    before = json.loads((copy / "run/registration.json").read_text())
    shell(copy, "dvc", "repro", "--single-item", "--force", "register")
    assert json.loads((copy / "run/registration.json").read_text()) == before


@pytest.mark.parametrize("lost", ["database", "artifacts"])
def test_a_lost_registry_is_noticed_and_written_again(copy, lost):
    """dvc.lock remembers a version that the store has not, or has no files of."""
    if lost == "database":
        (copy / "mlflow.db").unlink()
    else:
        shutil.rmtree(copy / "mlruns")
    said = shell(copy, "ganflow", "promote", code=1)
    assert ("no version with the alias candidate" if lost == "database" else "has no whole models:/tiny/1") in said
    assert "dvc repro --single-item --force register" in said
    shell(copy, "dvc", "repro", "--single-item", "--force", "register")
    assert "promoted: there is no champion yet" in shell(copy, "ganflow", "promote")


def test_a_damaged_output_is_noticed_and_made_again(copy):
    generator = copy / "run/model/generator.safetensors"
    whole = generator.read_bytes()
    generator.chmod(0o644)
    generator.write_bytes(whole[: len(whole) // 2])
    said = shell(copy, "ganflow", "evaluate", "run/model", "run/reference", "run/evaluation", code=1)
    assert "generator.safetensors is damaged" in said
    assert "dvc checkout" in said
    assert (copy / "run/evaluation/scores.json").exists()
    shell(copy, "dvc", "repro")
    assert generator.read_bytes() == whole


def test_dvc_metrics_plots_and_experiments(copy):
    """In a git repository, as `dvc exp` wants it."""
    shutil.copy(ROOT / ".gitignore", copy)
    (copy / ".dvc/config").unlink()
    name = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in (["init"], ["add", "."], [*name, "commit", "--message", "a"]):
        shell(copy, "git", *command)
    shell(copy, "dvc", "exp", "run", "--quiet", "-S", "train.learning_rate=0.005")
    assert "learning_rate: 0.005" in (copy / "params.yaml").read_text()
    assert "fid_classifier_256" in shell(copy, "dvc", "metrics", "diff")
    assert "fid_classifier_256" in shell(copy, "dvc", "metrics", "show")
    shell(copy, "dvc", "plots", "show", "--out", "plots")
    assert "loss_d" in (copy / "plots" / "index.html").read_text()


def test_a_report_needs_no_other_file(project):
    page = (project / "run/evaluation/report.html").read_text()
    scores = json.loads((project / "run/evaluation/scores.json").read_text())
    assert f"fid_classifier_256 = {scores['fid_classifier_256']:.3f}" in page
    assert "data:image/png;base64," in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)

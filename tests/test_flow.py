"""The whole flow for real, on a tiny set: dvc, the registry, the gate, and kfp.local beside them."""

import json
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


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    """A project of one's own, to damage."""
    shutil.copytree(project, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy"


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
        shell(copy, "dvc", "repro", "--quiet", *_params(copy, images))
        assert f"{word}: fid_classifier_256" in shell(copy, "ganflow", "promote", "--dry-run", code=code)
        said = shell(copy, "ganflow", "promote", code=code)
        assert f"{word}: fid_classifier_256" in said
    decision = json.loads(shell(copy, "ganflow", "promote", "--json"))
    assert (decision["verdict"], decision["candidate"]["version"]) == ("unchanged", "3")


def _params(project: Path, total_images: int) -> list[str]:
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["train"]["total_images"] = total_images
    path.write_text(yaml.safe_dump(params))
    return []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_stopped_training_goes_on_in_the_same_run_to_the_same_bits(copy, number):
    """A real process, stopped in the middle by a signal, and run again by the same command."""
    train = ["ganflow", "train", "run/prepared", "run/cut", "--resume"]
    train += ["--set", "train.total_images=9600", "--set", "train.seed=5"]
    shell(copy, *[word.replace("cut", "whole") for word in train], MLFLOW_EXPERIMENT_NAME="whole")
    history = copy / "run/cut/history.jsonl"
    process = start(copy, *train, MLFLOW_EXPERIMENT_NAME="cut")
    while not history.exists() or len(history.read_text().splitlines()) < 8:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    said, _ = process.communicate()
    assert process.returncode == (0 if number == signal.SIGTERM else -signal.SIGKILL)
    assert number == signal.SIGKILL or "all saved; `--resume` goes on from there" in said
    shell(copy, *train, MLFLOW_EXPERIMENT_NAME="cut")
    for name in ("generator.safetensors", "history.jsonl", "model.json", "checkpoints/final.safetensors"):
        assert (copy / "run/cut" / name).read_bytes() == (copy / "run/whole" / name).read_bytes(), name
    with sqlite3.connect(copy / "mlflow.db") as store:
        runs = "select run_uuid, status from runs join experiments using (experiment_id) where experiments.name = ?"
        [(whole, _)], [(cut, status)] = (store.execute(runs, [name]).fetchall() for name in ("whole", "cut"))
        points = "select key, step, value from metrics where run_uuid = ? and key like 'loss%' order by key, step"
        assert store.execute(points, [cut]).fetchall() == store.execute(points, [whole]).fetchall()
    assert status == "FINISHED"


def test_registering_again_is_the_same_version(copy):
    before = json.loads((copy / "run/registration.json").read_text())
    shell(copy, "dvc", "repro", "--single-item", "--force", "register")
    assert json.loads((copy / "run/registration.json").read_text()) == before


def test_a_lost_registry_is_noticed_and_written_again(copy):
    """dvc.lock remembers a version that the new, empty store has not."""
    (copy / "mlflow.db").unlink()
    shutil.rmtree(copy / "mlruns")
    said = shell(copy, "ganflow", "promote", code=1)
    assert "tiny has no version with the alias candidate" in said
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
    assert "fid_classifier_256" in shell(copy, "dvc", "metrics", "show")
    shell(copy, "dvc", "plots", "show", "--out", "plots")
    assert "loss_d" in (copy / "plots" / "index.html").read_text()


def test_a_report_needs_no_other_file(project):
    page = (project / "run/evaluation/report.html").read_text()
    scores = json.loads((project / "run/evaluation/scores.json").read_text())
    assert f"fid_classifier_256 = {scores['fid_classifier_256']:.3f}" in page
    assert "data:image/png;base64," in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)

"""Every generator that is kept is a LoggedModel of its run, once, and the search finds the best."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from registered import empty_store, use_store

HERE = Path(__file__).parent
TRAINING = f"""
import os, sys
sys.path[:0] = ["{HERE}", "{HERE.parent}"]
from pathlib import Path
import mlflow
from runs import DATA, SMALL, Script, StopAfter, noise
from ganflow.artifacts import Model
from ganflow.config import Train
from ganflow.errors import Interrupted
from ganflow.tracking import training_run
from ganflow.training import begin, conclude, train

model = Model(Path("model"))
scores = dict(at_64=9, at_128=3, at_192=5, at_256=3, at_320=2)

def attempt(**how):
    sets, settings = noise(), Train(**SMALL | {{"checkpoint_every_images": 64}})
    state = begin(DATA, sets, settings, model, resume=True)
    with training_run({{"seed": 0}}, DATA, None, model.mlflow_run) as log:
        train(state, sets, DATA, settings, model, judge=Script(**scores), log=log, **how)
        log.finished(model)
    conclude(model)

mlflow.set_experiment("ganflow")
with mlflow.start_run() as parent:
    pass
os.environ["GANFLOW_PARENT_RUN"] = parent.info.run_id
try:
    attempt(stop=StopAfter(15))
except Interrupted:
    pass
attempt()
score = f"metrics.kept_{{Script.name}}"
found = mlflow.search_logged_models(
    order_by=[{{"field_name": score, "ascending": True}}], output_format="list"
)
values = [{{m.key: (m.value, m.step, m.dataset_name) for m in one.metrics}}[f"kept_{{Script.name}}"] for one in found]
assert [one.name for one in found] == ["generator-000000320", "generator-000000128", "generator-000000064"], found
assert values == [(2, 320, "noise"), (3, 128, "noise"), (9, 64, "noise")], values
assert len({{one.source_run_id for one in found}}) == 1
child = mlflow.get_run(found[0].source_run_id)
assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
files = [file.path for file in mlflow.MlflowClient().list_logged_model_artifacts(found[0].model_id)]
assert files == ["generator-000000320.safetensors"], files
"""


@pytest.mark.slow
def test_the_search_finds_the_best_and_the_sweep_has_its_children(tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment["MLFLOW_TRACKING_URI"] = use_store(empty_store(tmp_path), tmp_path)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRAINING], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-3000:]

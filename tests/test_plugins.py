"""MLflow finds DVC's lineage by entry points, in a run that knows nothing of ganflow."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
RUN = """
import json, mlflow
from mlflow.data.dataset_source_registry import resolve_dataset_source
with mlflow.start_run() as run:
    pass
source = resolve_dataset_source("dvc://md5/abc.dir?path=data/x")
again = type(source).from_dict(json.loads(source.to_json()))
print(json.dumps({"tags": mlflow.get_run(run.info.run_id).data.tags, "source": again.to_dict(),
                  "type": source._get_source_type()}))
"""


def test_any_run_in_a_dvc_repository_has_the_md5_of_its_data(tmp_path):
    installed = tmp_path / "site" / "ganflow_entry_points-0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: ganflow-entry-points\nVersion: 0\n")
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    lines = [
        line
        for group, entries in groups.items()
        if group.startswith("mlflow.")
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in entries.items()))
    ]
    (installed / "entry_points.txt").write_text("\n".join(lines))
    project = tmp_path / "project"
    (project / ".dvc").mkdir(parents=True)
    (project / "images.dvc").write_text("outs:\n- md5: 0123.dir\n  path: images\n")
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(ROOT / "src")]),
        "MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db",
    }
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN], cwd=project, env=environment, capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr
    answer = json.loads(said.stdout.splitlines()[-1])
    assert answer["tags"]["dvc.data.images"] == "0123.dir"
    assert answer["source"] == {"uri": "dvc://md5/abc.dir?path=data/x", "md5": "abc.dir", "path": "data/x"}
    assert answer["type"] == "dvc"

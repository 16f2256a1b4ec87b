"""Print the secrets of the kind overlay, each value random or from the environment: nothing is written to a disk.

    python deploy/make_secrets.py | kubectl create --filename -

`create`, not `apply`: a secret that is there already stays as it is. `--only-runs` prints those of a run's namespace
alone, every value from the environment: what overlays/production needs.
"""

import argparse
import json
import os
import secrets
import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

SERVICES = "ganflow"
"""The namespace of MLflow, PostgreSQL and the S3 server."""
POLICY = "authorization_function = mlflow.server.auth:authenticate_request_basic_auth"


class Values:
    """Values by the name of their variable; one that is not set is made up, or missing if it must be given."""

    def __init__(self, environment: Mapping[str, str], made_up: bool) -> None:
        self.environment, self.made_up = environment, made_up
        self.missing: list[str] = []

    def __getitem__(self, name: str) -> str:
        if value := self.environment.get(name):
            return value
        if not self.made_up:
            self.missing.append(name)
        return secrets.token_urlsafe(24)


def secret(namespace: str, name: str, **data: str) -> dict[str, Any]:
    """A manifest."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/part-of": "ganflow"}},
        "stringData": data,
    }


def keys(access: str, value: str) -> dict[str, str]:
    """As boto3's environment has them."""
    return {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": value}


def for_runs(namespace: str, s3: dict[str, str], user: str, password: str) -> list[dict[str, Any]]:
    """The two that params.yaml names."""
    return [
        secret(namespace, "ganflow-s3", **s3),
        secret(namespace, "ganflow-mlflow", MLFLOW_TRACKING_USERNAME=user, MLFLOW_TRACKING_PASSWORD=password),
    ]


def identity(name: str, s3: dict[str, str], *actions: str) -> dict[str, Any]:
    """Who may do what, for SeaweedFS."""
    credentials = [{"accessKey": s3["AWS_ACCESS_KEY_ID"], "secretKey": s3["AWS_SECRET_ACCESS_KEY"]}]
    return {"name": name, "credentials": credentials, "actions": list(actions)}


def on(*buckets: str) -> list[str]:
    """What may be done with these buckets' objects, in SeaweedFS's words."""
    return [f"{verb}:{bucket}" for bucket in buckets for verb in ("Read", "Write", "List", "Tagging")]


def ini(value: str) -> str:
    """For auth.ini: its own interpolation character is doubled."""
    return value.replace("%", "%%")


def everything(namespace: str, values: Values) -> list[dict[str, Any]]:
    """The secrets of both namespaces; each part has keys of its own."""
    admin = keys("admin", values["S3_ADMIN_SECRET"])
    server = keys("mlflow", values["S3_MLFLOW_SECRET"])
    runs = keys("ganflow", values["S3_GANFLOW_SECRET"])
    database, password = values["POSTGRES_PASSWORD"], values["MLFLOW_TRACKING_PASSWORD"]
    address = f"postgresql+psycopg2://mlflow:{quote(database, safe='')}@postgres.{SERVICES}:5432"
    identities = [
        identity("admin", admin, "Admin"),
        identity("mlflow", server, *on("models")),
        identity("ganflow", runs, *on("data", "checkpoints")),
    ]
    auth = (
        "[mlflow]\ndefault_permission = READ\nadmin_username = admin\n"
        f"admin_password = {ini(password)}\ndatabase_uri = {ini(address)}/mlflow_auth\n{POLICY}\n"
    )
    return [
        secret(SERVICES, "postgres", POSTGRES_PASSWORD=database),
        secret(SERVICES, "s3-admin", **admin),
        secret(SERVICES, "s3-identities", **{"ids.json": json.dumps({"identities": identities})}),
        secret(SERVICES, "mlflow-auth", **{"auth.ini": auth}),
        secret(
            SERVICES,
            "mlflow-server",
            MLFLOW_BACKEND=f"{address}/mlflow",
            MLFLOW_FLASK_SERVER_SECRET_KEY=values["MLFLOW_FLASK_SERVER_SECRET_KEY"],
            **server,
        ),
        *for_runs(namespace, runs, "admin", password),
    ]


def main(arguments: list[str]) -> int:
    """Exit code 2 when a value must be given and is not."""
    parser = argparse.ArgumentParser(description="Print the secrets that deploy/ refers to.")
    parser.add_argument("--runs", default="kubeflow", metavar="NAMESPACE", help="of the runs (default: kubeflow)")
    parser.add_argument("--only-runs", action="store_true", help="those two, from AWS_* and MLFLOW_*")
    chosen = parser.parse_args(arguments)
    values = Values(os.environ, made_up=not chosen.only_runs)
    if chosen.only_runs:
        s3 = keys(values["AWS_ACCESS_KEY_ID"], values["AWS_SECRET_ACCESS_KEY"])
        user, password = values["MLFLOW_TRACKING_USERNAME"], values["MLFLOW_TRACKING_PASSWORD"]
        items = for_runs(chosen.runs, s3, user, password)
    else:
        items = everything(chosen.runs, values)
    if values.missing:
        print(f"error: {', '.join(values.missing)} is not set; export each, then try again", file=sys.stderr)
        return 2
    # JSON is what kubectl takes as well as YAML, and any value is safe in it.
    print(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

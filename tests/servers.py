"""Real servers for tests, on loopback, each ended with its process group."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


def wait_for(url: str, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(url)


def start_mlflow(folder: Path, store: str, port: int, *more: str, **environment: str) -> subprocess.Popen[bytes]:
    """`mlflow server` on a store; ready when this returns."""
    command = [sys.executable, "-W", "ignore", "-m", "mlflow", "server", "--backend-store-uri", store]
    command = [*(command if store else more[:1]), "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += more if store else more[1:]
    variables = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    variables |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **environment}
    with (folder / "mlflow.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=log, start_new_session=True)
    wait_for(f"http://127.0.0.1:{port}/health")
    return process


def stop(process: subprocess.Popen[bytes], number: int = signal.SIGKILL) -> None:
    """Send a signal to a server's whole group; SIGKILL waits for its end."""
    os.killpg(process.pid, number)
    if number == signal.SIGKILL:
        process.wait()


@contextmanager
def mlflow_server(folder: Path, store: str, *more: str, **environment: str) -> Iterator[str]:
    port = free_port()
    process = start_mlflow(folder, store, port, *more, **environment)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(process)


POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
"""Debian's package postgresql puts its programs here."""


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """PostgreSQL on loopback with a database of its own; yields its address. It never runs as root."""
    port, programs, place = free_port(), POSTGRES[-1], folder / "postgres"
    place.mkdir()
    if os.getuid() == 0:
        shutil.chown(place, "postgres", "postgres")
        for parent in (folder, *folder.parents):
            if parent != Path("/") and parent.stat().st_uid == 0:
                parent.chmod(parent.stat().st_mode | 0o711)
    who = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
    init = [str(programs / "initdb"), "-D", str(place / "data"), "-U", "mlflow", "-A", "trust", "--no-sync"]
    subprocess.run(init, check=True, capture_output=True, cwd=place, **who)
    command = [str(programs / "postgres"), "-D", str(place / "data"), "-p", str(port), "-k", str(place), "-F"]
    command += ["-h", "127.0.0.1"]
    process = subprocess.Popen(
        command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, **who
    )
    try:
        ready = [str(programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(port)]
        for _ in range(300):
            if subprocess.run(ready, capture_output=True).returncode == 0:
                break
            time.sleep(0.1)
        create = [str(programs / "createdb"), "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow"]
        subprocess.run(create, check=True, capture_output=True)
        yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/mlflow"
    finally:
        stop(process)


def weed() -> Path | None:
    """The SeaweedFS program, where it is installed."""
    found = shutil.which("weed") or next(
        (str(Path(p) / "bin/weed") for p in sys.path if (Path(p) / "bin/weed").exists()), None
    )
    return Path(found) if found else None


@contextmanager
def s3(folder: Path, bucket: str) -> Iterator[dict[str, str]]:
    """SeaweedFS's S3 on loopback with a bucket; yields the environment variables that reach it."""
    program = weed()
    assert program
    names = ("master", "volume", "filer", "s3")
    ports = {name: free_port() for name in (*names, *(f"{name}.grpc" for name in names))}
    ports |= {"admin": free_port(), "admin.grpc": free_port()}
    keys = {"accessKey": "access", "secretKey": "secret-of-the-test"}
    identities = {"identities": [{"name": "mlflow", "credentials": [keys], "actions": ["Admin"]}]}
    (folder / "ids.json").write_text(json.dumps(identities))
    data = folder / "weed"
    data.mkdir()
    command = [str(program), "mini", f"-dir={data}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-webdav=false"]
    command += [f"-s3.config={folder / 'ids.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-admin.ui=false"]
    command += [
        f"-{name.removesuffix('.grpc')}.port{'.grpc' if name.endswith('.grpc') else ''}={port}"
        for name, port in ports.items()
    ]
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}", "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}",
        "AWS_ACCESS_KEY_ID": keys["accessKey"], "AWS_SECRET_ACCESS_KEY": keys["secretKey"],
        "AWS_DEFAULT_REGION": "us-east-1",
    }  # fmt: skip
    try:
        _make_bucket(variables, bucket)
        yield variables
    finally:
        stop(process)


def _make_bucket(variables: dict[str, str], bucket: str) -> None:
    import boto3

    client = boto3.client(
        "s3", endpoint_url=variables["MLFLOW_S3_ENDPOINT_URL"], region_name="us-east-1",
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"], aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
    for attempt in range(100):
        try:
            client.create_bucket(Bucket=bucket)
            client.put_object(Bucket=bucket, Key="ready", Body=b"")
            break
        except Exception:
            if attempt == 99:
                raise
            time.sleep(0.3)
    client.close()

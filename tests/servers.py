"""Real servers for tests, on loopback, each ended with its process group."""

import os
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
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", *more]
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

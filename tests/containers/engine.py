"""A Docker engine, and the images built by it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from components import IMAGE, SMALL_IMAGE

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
LOCAL_BASE = "python:3.11-slim-bookworm"
BUILD_SECONDS = 1500


def docker(*command: str, code: int | None = 0, seconds: int = 300) -> str:
    """Run docker; returns what it prints. /usr/bin/docker is Debian's, which has BuildKit."""
    program = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"
    done = subprocess.run(
        [program, *command], cwd=ROOT, env=os.environ | {"DOCKER_BUILDKIT": "1"}, capture_output=True, text=True,
        timeout=seconds,
    )  # fmt: skip
    assert code is None or done.returncode == code, f"docker {' '.join(command)}:\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def require_engine() -> None:
    """Skip where there is no engine; with GANFLOW_START_DOCKER=1, as CI sets it, one is installed and started."""
    if os.environ.get("GANFLOW_START_DOCKER"):
        done = subprocess.run([HERE / "docker-up.sh"], capture_output=True, text=True, timeout=600)
        if done.returncode:
            pytest.skip(f"no Docker engine could be started: {done.stderr[-300:]}")
        os.environ["DOCKER_HOST"] = done.stdout.splitlines()[-1]
    if not shutil.which("docker") or subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("needs a Docker engine that answers `docker info`")


def build() -> dict[str, str]:
    """The images by target; from a local base where there is one, since that one needs no registry."""
    base = []
    if docker("images", "--quiet", LOCAL_BASE).strip():
        base = ["--build-arg", f"BASE={LOCAL_BASE}"]
    made = {"small": SMALL_IMAGE, "cpu": IMAGE}
    for target, tag in made.items():
        options = ["--file", "images/Dockerfile", "--target", target, "--tag", tag, "--build-arg", "REVISION=test"]
        docker("build", *options, *base, ".", seconds=BUILD_SECONDS)
    docker("image", "prune", "--force")
    return made

"""Where a model came from: the passport that goes into the run, the model version and the report."""

import os
import platform
import subprocess
from importlib.metadata import version
from typing import Any

LIBRARIES = ("ganflow", "torch", "torchvision", "numpy", "mlflow", "dvc", "kfp")


def passport(card: dict[str, Any], scores: dict[str, Any]) -> dict[str, Any]:
    """Code, data, parameters, machine and orchestrator of the model that has this card and these scores.

    What is not known here (no git in a pod, no Kubeflow on a laptop) is null.
    """
    return {
        "git": git_state(),
        "data": {key: card["data"].get(key) for key in ("raw_md5", "images_md5", "labels_md5")},
        "parameters_sha256": card["parameters_sha256"],
        "generator_sha256": card["generator_sha256"],
        "protocol_sha256": scores["protocol_sha256"],
        "image": os.environ.get("GANFLOW_IMAGE"),
        "kubeflow_run": os.environ.get("KFP_RUN_ID"),
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "python": platform.python_version(),
        },
        "libraries": {name: version(name) for name in LIBRARIES if _installed(name)},
        "cuda": _cuda(),
    }


def git_state() -> dict[str, Any] | None:
    """Revision and dirty flag of the repository in the working directory; None where there is none."""
    revision = _git("rev-parse", "HEAD")
    return None if revision is None else {"revision": revision, "dirty": bool(_git("status", "--porcelain"))}


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


def _installed(name: str) -> bool:
    from importlib.metadata import PackageNotFoundError

    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _cuda() -> dict[str, Any] | None:
    import torch

    if not torch.cuda.is_available():
        return None
    return {"version": torch.version.cuda, "device": torch.cuda.get_device_name()}

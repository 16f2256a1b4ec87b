"""Where a model came from: the passport that goes into the run, the model version and the report."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

LIBRARIES = ("ganflow", "torch", "torchvision", "numpy", "mlflow", "dvc", "kfp")


def provenance(generator_sha256: str) -> dict[str, Any]:
    """Code, machine, libraries and orchestrator, here and now: `train` keeps it for the model that it made.

    What there is none of (git in a pod, Kubeflow on a laptop) is null.
    """
    return {
        "generator_sha256": generator_sha256,
        "git": git_state(),
        "image": os.environ.get("GANFLOW_IMAGE"),
        "kubeflow_run": os.environ.get("KFP_RUN_ID"),
        "machine": {
            "system": platform.platform(),
            "processor": platform.machine(),
            "python": platform.python_version(),
        },
        "libraries": {name: found for name in LIBRARIES if (found := _version(name))},
        "cuda": _cuda(),
    }


def passport(card: dict[str, Any], scores: dict[str, Any], trained: dict[str, Any] | None) -> dict[str, Any]:
    """Data, parameters, protocol and training of the model with this card and these scores.

    `trained` is the provenance that was kept beside the model; of another model, or not kept, it is null here.
    """
    ours = trained if trained and trained["generator_sha256"] == card["generator_sha256"] else None
    return {
        "generator_sha256": card["generator_sha256"],
        "data": {key: card["data"].get(key) for key in ("raw_md5", "images_md5", "labels_md5")},
        "parameters_sha256": card["parameters_sha256"],
        "protocol_sha256": scores["protocol_sha256"],
        "trained": ours,
    }


def git_state() -> dict[str, Any] | None:
    """Revision and dirty flag of the repository in the working directory; None where there is none.

    What a run itself writes (dvc.lock, the folder run) makes it no dirtier.
    """
    revision = _git("rev-parse", "HEAD")
    if revision is None:
        return None
    changes = _git("status", "--porcelain", "--", ":(top)", ":(top,exclude)dvc.lock", ":(top,exclude)run")
    return {"revision": revision, "dirty": bool(changes)}


def _git(*arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cuda() -> dict[str, Any] | None:
    import torch

    if not torch.cuda.is_available():
        return None
    return {"version": torch.version.cuda, "device": torch.cuda.get_device_name()}

"""Where a model came from: the passport that goes into the run, the model version and the report."""

import hashlib
import os
import platform
import subprocess
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("ganflow", "torch", "torchvision", "numpy", "mlflow", "dvc", "kfp")
OURS = (":(top)", ":(top,exclude)dvc.lock", ":(top,exclude)run")
DIFF_LIMIT = 1_000_000


def provenance(generator_sha256: str) -> dict[str, Any]:
    """Code, machine, libraries and orchestrator, here and now: `train` keeps it for the model that it made.

    What there is none of (git in a pod, Kubeflow on a laptop) is null.
    """
    return {
        "generator_sha256": generator_sha256,
        "git": git_state(),
        "image": os.environ.get("GANFLOW_IMAGE"),
        "kubeflow_run": os.environ.get("KFP_RUN_ID"),
        "pipeline_sha256": os.environ.get("GANFLOW_PIPELINE_SHA256"),
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
    return {**identity(card, scores), "trained": ours}


def identity(card: dict[str, Any], scores: dict[str, Any]) -> dict[str, Any]:
    """The half of the passport that is the same wherever and whenever the model is made: scores.json carries it."""
    return {
        "generator_sha256": card["generator_sha256"],
        "data": {key: card["data"].get(key) for key in ("raw_md5", "images_md5", "labels_md5")},
        "parameters_sha256": card["parameters_sha256"],
        "protocol_sha256": scores["protocol_sha256"],
    }


def git_state() -> dict[str, Any] | None:
    """Revision, tags, dirty flag and diff of the repository in the working directory; None where there is none.

    What a run itself writes (dvc.lock, the folder run) makes it no dirtier. `git apply` takes the diff; new files are
    in it, and one of more than DIFF_LIMIT characters is only known by its hash.
    """
    revision = git("rev-parse", "HEAD")
    if revision is None:
        return None
    diff = _diff()
    return {
        "revision": revision,
        "tags": (git("tag", "--points-at", "HEAD") or "").split(),
        "dirty": bool(diff),
        "diff": diff if len(diff) <= DIFF_LIMIT else None,
        "diff_sha256": hashlib.sha256(diff.encode()).hexdigest() if diff else None,
    }


def git(*arguments: str, folder: Path | None = None, index: Path | None = None) -> str | None:
    """What git prints, in a folder and with an index of its own where they are given; None where it fails."""
    environment = os.environ | ({"GIT_INDEX_FILE": str(index)} if index else {})
    command = ["git", *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder, env=environment)
    except (OSError, subprocess.CalledProcessError, UnicodeDecodeError):
        return None
    return result.stdout.rstrip("\n")


def _diff() -> str:
    """Everything that is not committed, as one binary-safe patch; the user's own index stays as it is."""
    if not git("status", "--porcelain", "--", *OURS):
        return ""
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "index"
        git("read-tree", "HEAD", index=index)
        git("add", "--all", "--", *OURS, index=index)
        diff = git("diff", "--cached", "--binary", "HEAD", index=index)
    return diff + "\n" if diff else ""


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

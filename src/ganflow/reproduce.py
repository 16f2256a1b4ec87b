"""`ganflow reproduce MODEL`: make the model again from what its passport says, and compare."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from PIL import Image

from ganflow.ancestry import Origin, moved_tags, pointer
from ganflow.artifacts import Evaluation, Model, Prepared, file_hash, read_json, write_json, write_text
from ganflow.errors import ArtifactError, DataError, GanflowError
from ganflow.lineage import git

Outcome = Literal["identical", "equal", "different"]
STEPS = (
    ("prepare", "{raw}", "run/prepared"),
    ("reference", "run/prepared", "run/reference"),
    ("train", "run/prepared", "run/model", "--resume"),
    ("evaluate", "run/model", "run/reference", "run/evaluation"),
)


@dataclass(frozen=True)
class Verdict:
    """What became of one artifact. Equal: not the same bits, and within the tolerance that `said` names."""

    artifact: str
    outcome: Outcome
    said: str

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return asdict(self)


def reproduce(found: Origin, out: Path) -> list[Verdict]:
    """Make the model again in a git worktree at `out`, and compare each artifact with the original's.

    Raises ArtifactError where an original was tampered with, a git tag was moved, or there is nothing to start from,
    DataError where the data cannot be had, and GanflowError where a step fails.
    """
    if found.evaluation is None:
        raise ArtifactError(
            f"{found.model.path} has no evaluation beside it; run `ganflow evaluate`, or name a version"
        )
    state = _state(found)
    require_untouched(found)
    with worktree(state, out):
        raw = pull(found.passport["data"]["raw_md5"], out)
        write_parameters(found, out)
        for step, *arguments in STEPS:
            run(out, step, *(argument.format(raw=raw) for argument in arguments))
        return list(compare(found, out))


def require_untouched(found: Origin) -> None:
    """Raise ArtifactError for an original that is not what its card, its scores and its passport say."""
    assert found.evaluation
    card, scores = found.model.read_card(), found.evaluation.read_card()
    weights = file_hash(found.model.generator)
    said = {
        "generator.safetensors": (weights, card["generator_sha256"]),
        "scores.json": (scores["generator_sha256"], card["generator_sha256"]),
        "passport.json": (found.passport["generator_sha256"], card["generator_sha256"]),
        "model.json": (card["parameters_sha256"], found.passport["parameters_sha256"]),
    }
    for name, (is_now, was) in said.items():
        if is_now != was:
            raise ArtifactError(
                f"{name} of {found.model.path} was tampered with: its sha256 is {is_now[:12]}…, not {was[:12]}…; there "
                "is no original to compare with"
            )


@contextmanager
def worktree(state: dict[str, Any], out: Path) -> Iterator[None]:
    """A git worktree at the revision, with the diff of a dirty tree applied; it stays, for whoever wants to look."""
    if moved := moved_tags(state):
        raise ArtifactError(f"{moved[0]}; move it back, or compare the two revisions first")
    revision = state["revision"]
    if git("worktree", "add", "--detach", str(out.resolve()), revision) is None:
        raise ArtifactError(
            f"git makes no worktree of revision {revision[:12]} at {out}; fetch the revision, or name another --out"
        )
    if state["dirty"]:
        _apply(state, out)
    yield


def pull(raw_md5: str, folder: Path) -> Path:
    """The raw images with this md5, fetched by DVC; returns where they are, from `folder`.

    Raises DataError when no .dvc file tracks them, or the remote lacks an object.
    """
    tracked = pointer(raw_md5, folder)
    if tracked is None:
        raise DataError(f"no .dvc file of the revision tracks the data {raw_md5}; push its .dvc file, and its data")
    place = tracked.relative_to(folder)
    result = subprocess.run(
        [sys.executable, "-m", "dvc", "pull", str(place)], cwd=folder, capture_output=True, text=True, check=False
    )
    if result.returncode:
        objects = [
            line.strip() for line in (result.stdout + result.stderr).splitlines() if "md5" in line or "ERROR" in line
        ]
        raise DataError(
            f"the data {raw_md5} cannot be fetched ({'; '.join(objects[:3])}); push the missing object from a copy "
            "that has it, with `dvc push`"
        )
    return place.with_suffix("")


def write_parameters(found: Origin, folder: Path) -> None:
    """params.yaml of the worktree, with the very parameters of the training and the evaluation's count and seed."""
    assert found.evaluation
    params = yaml.safe_load((folder / "params.yaml").read_text())
    protocol = found.evaluation.read_card()["protocol"]
    params["train"] = found.model.read_card()["parameters"]
    params["evaluate"] |= {"count": protocol["generated_count"], "seed": protocol["seed"]}
    params["evaluate"]["extractor"] = protocol["extractor"]
    write_text(folder / "params.yaml", yaml.safe_dump(params, sort_keys=False))


def run(folder: Path, *arguments: str) -> None:
    """A step in the worktree, by the worktree's own code and with a tracking store of its own."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    environment |= {"PYTHONPATH": str((folder / "src").resolve())}
    command = [sys.executable, "-m", "ganflow", *arguments]
    if code := subprocess.run(command, cwd=folder, env=environment, check=False).returncode:
        raise GanflowError(
            f"`ganflow {' '.join(arguments)}` in {folder} ended with code {code}; its last lines say why"
        )


def compare(found: Origin, folder: Path) -> Iterator[Verdict]:
    """A verdict an artifact, in the order in which they were made."""
    assert found.evaluation
    card = found.model.read_card()
    made, scored = Model(folder / "run/model"), Evaluation(folder / "run/evaluation")
    prepared = Prepared(folder / "run/prepared").read_card()
    why = _why(found.passport["trained"] or {}, read_json(made.provenance))
    yield _same("images.npy", card["data"]["images_md5"], prepared["images_md5"], why)
    yield _same("parameters", card["parameters_sha256"], made.read_card()["parameters_sha256"], why)
    yield _same("generator.safetensors", card["generator_sha256"], made.read_card()["generator_sha256"], why)
    yield _scores(found.evaluation.read_card(), scored.read_card(), why)
    yield _samples(found.evaluation.samples, scored.samples, why)


def write_verdicts(path: Path, verdicts: list[Verdict]) -> None:
    """The verdicts as JSON, beside what was made."""
    write_json(path, {"artifacts": [verdict.as_dict() for verdict in verdicts]})


def _state(found: Origin) -> dict[str, Any]:
    trained = found.passport["trained"]
    if not trained or not trained.get("git"):
        raise ArtifactError(
            f"the passport of {found.model.path} names no git revision: it was not trained in a repository; give the "
            "revision's checkout and run `dvc repro` there"
        )
    state: dict[str, Any] = trained["git"]
    return state


def _apply(state: dict[str, Any], out: Path) -> None:
    if not state.get("diff"):
        raise ArtifactError(
            f"the tree was dirty, and its diff not kept (sha256 {state.get('diff_sha256')}); it cannot be made again"
        )
    patch = out / ".ganflow-diff.patch"
    write_text(patch, state["diff"])
    applied = git("apply", "--whitespace=nowarn", str(patch.resolve()), folder=out)
    patch.unlink()
    if applied is None:
        raise ArtifactError(f"the diff of the dirty tree does not apply at {state['revision'][:12]}; look at {out}")


def _same(artifact: str, was: str | None, now: str | None, why: str) -> Verdict:
    if was == now:
        return Verdict(artifact, "identical", str(now)[:12])
    return Verdict(artifact, "different", f"{str(was)[:12]} before, {str(now)[:12]} now; {why}")


def _scores(was: dict[str, Any], now: dict[str, Any], why: str) -> Verdict:
    """Equal when the same score is within two standard errors of the difference."""
    score = was["score"]
    if was == now:
        return Verdict("scores.json", "identical", f"{score} {was[score]:.4f}")
    if now["score"] != score:
        return Verdict("scores.json", "different", f"{score} before, {now['score']} now; {why}")
    gap, bound = abs(was[score] - now[score]), 2 * float(np.hypot(was[f"{score}_se"], now[f"{score}_se"]))
    said = f"{score} {was[score]:.4f} before, {now[score]:.4f} now, two standard errors are {bound:.4f}; {why}"
    return Verdict("scores.json", "equal" if gap <= bound else "different", said)


def _samples(was: Path, now: Path, why: str) -> Verdict:
    """Equal when no pixel is more than one of 256 levels away."""
    if was.read_bytes() == now.read_bytes():
        return Verdict("samples.png", "identical", file_hash(now)[:12])
    with Image.open(was) as old, Image.open(now) as new:
        before, after = np.asarray(old, dtype=np.int16), np.asarray(new, dtype=np.int16)
    if before.shape != after.shape:
        return Verdict("samples.png", "different", f"{before.shape} before, {after.shape} now; {why}")
    most = int(np.abs(before - after).max())
    return Verdict("samples.png", "equal" if most <= 1 else "different", f"at most {most} of 256 levels apart; {why}")


def _why(was: dict[str, Any], now: dict[str, Any]) -> str:
    """What of the machine and the libraries is not as it was."""
    changes = [
        f"{part} {key} was {old!r} and is {new!r}"
        for part in ("machine", "libraries", "cuda")
        for key in sorted({*(was.get(part) or {}), *(now.get(part) or {})})
        if (old := (was.get(part) or {}).get(key)) != (new := (now.get(part) or {}).get(key))
    ]
    return "; ".join(changes) or "the same kind of machine and the same libraries"

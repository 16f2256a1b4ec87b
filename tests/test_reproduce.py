"""From a champion back to its data, and the same champion again in a fresh clone."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, TINY, shell

pytestmark = pytest.mark.slow
GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c")


@pytest.fixture(scope="module")
def repository(tmp_path_factory, raw):
    """A git and DVC repository like this one, with a tag, a change that is not committed, and a champion."""
    folder = tmp_path_factory.mktemp("reproduce") / "repository"
    folder.mkdir()
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for section, values in TINY.items():
        params[section] |= values
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.copy(ROOT / ".gitignore", folder)
    shutil.copytree(raw, folder / "data" / "fashion-mnist")
    shutil.copytree(ROOT / "src" / "ganflow", folder / "src" / "ganflow", ignore=shutil.ignore_patterns("__pycache__"))
    shell(folder, "git", "init", "--quiet")
    shell(folder, "dvc", "init", "--quiet")
    shell(folder, "dvc", "remote", "add", "--default", "store", str(folder.with_name("remote")))
    shell(folder, "dvc", "add", "--quiet", "data/fashion-mnist")
    shell(folder, "dvc", "push", "--quiet")
    shell(folder, "git", "add", ".")
    shell(folder, *GIT, "commit", "--quiet", "--message", "all")
    shell(folder, "git", "tag", "v1")
    params["train"]["seed"] = 3  # a dirty tree
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    for step in (
        ["prepare", "data/fashion-mnist", "run/prepared"],
        ["reference", "run/prepared", "run/reference"],
        ["train", "run/prepared", "run/model"],
        ["evaluate", "run/model", "run/reference", "run/evaluation"],
        ["register", "run/model", "run/evaluation", "run/registration.json"],
        ["promote"],
    ):
        shell(folder, "ganflow", *step)
    return folder


@pytest.fixture
def clone(repository, tmp_path):
    """A fresh clone; only the registry is shared."""
    shell(tmp_path, "git", "clone", "--quiet", str(repository), "clone")
    return tmp_path / "clone"


def store(repository: Path) -> dict[str, str]:
    return {"MLFLOW_TRACKING_URI": f"sqlite:///{repository}/mlflow.db"}


def test_the_champion_is_identical_in_a_fresh_clone(repository, clone):
    said = shell(clone, "ganflow", "reproduce", "models:/tiny@champion", "--json", **store(repository))
    verdicts = json.loads(said[said.index("[\n") :])
    assert {verdict["artifact"]: verdict["outcome"] for verdict in verdicts} == dict.fromkeys(
        ("images.npy", "parameters", "generator.safetensors", "scores.json", "samples.png"), "identical"
    )
    assert json.loads((clone / "run/reproduced/run/reproduction.json").read_text())["artifacts"] == verdicts


def test_lineage_names_everything_on_the_way(repository):
    said = shell(repository, "ganflow", "lineage", "models:/tiny@champion", "--picture", "tree.svg")
    head = shell(repository, "git", "rev-parse", "HEAD").strip()
    card = json.loads((repository / "run/model/model.json").read_text())
    for part in (
        card["generator_sha256"][:12], "version  tiny 1", "aliases=candidate,champion", "record 1  event=promoted",
        "fid_classifier_256", card["data"]["raw_md5"], "data/fashion-mnist.dvc", head, "dirty=True", "tags=v1",
    ):  # fmt: skip
        assert part in said, part
    assert head in (repository / "tree.svg").read_text()
    tree = json.loads(shell(repository, "ganflow", "lineage", "run/model", "--json"))
    assert [source["kind"] for source in tree["sources"]] == [
        "evaluation", "data", "parameters", "git", "image", "pipeline run", "machine",
    ]  # fmt: skip


def test_a_moved_tag_a_missing_object_and_a_tampered_artifact_are_named(repository, clone):
    def reproduce() -> str:
        said = shell(clone, "ganflow", "reproduce", "models:/tiny@champion", code=1, **store(repository))
        return said.strip().splitlines()[-1]

    shell(clone, *GIT, "commit", "--allow-empty", "--quiet", "--message", "later")
    shell(clone, "git", "tag", "--force", "v1")
    assert "the git tag v1 was moved to" in reproduce()
    assert "the git tag v1 was moved to" in shell(
        clone, "ganflow", "lineage", "models:/tiny@champion", code=1, **store(repository)
    )
    shell(clone, "git", "tag", "--force", "v1", "HEAD~1")

    remote = repository.with_name("remote")
    lost = max(remote.glob("files/md5/*/*"), key=lambda path: path.stat().st_size)
    lost.rename(remote / "lost")
    shutil.rmtree(clone / "run", ignore_errors=True)
    shell(clone, "git", "worktree", "prune")
    said = reproduce()
    assert f"{lost.parent.name}{lost.name}" in said
    assert "cannot be fetched" in said
    (remote / "lost").rename(lost)

    [weights] = repository.glob("mlruns/*/models/*/artifacts/data/model/generator.safetensors")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "generator.safetensors of" in (said := reproduce())
    assert "was tampered with" in said
    weights.write_bytes(content)

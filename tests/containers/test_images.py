"""The images for real: what is in them, the whole pipeline run from them, and a training container that is killed."""

import json
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import shell
from engine import build, docker, require_engine
from registered import empty_store, use_store
from servers import mlflow_server

from ganflow.artifacts import file_hash

pytestmark = [pytest.mark.slow, pytest.mark.docker]
BARE = ("--rm", "--read-only", "--tmpfs", "/tmp", "--user", "1000:1000", "--network", "host")
"""As on a cluster: no root, and only /tmp and what is mounted can be written to."""


@pytest.fixture(scope="module")
def images() -> dict[str, str]:
    require_engine()
    return build()


def inside(image: str, code: str) -> str:
    return docker("run", *BARE, image, "python", "-W", "ignore", "-c", code).strip()


def test_what_is_in_the_images(images: dict[str, str]) -> None:
    for target, image in images.items():
        config = json.loads(docker("inspect", image))[0]["Config"]
        assert (config["User"], config["Entrypoint"]) == ("1000", None)
        assert config["Labels"]["org.opencontainers.image.revision"] == "test"
        bill = json.loads(inside(image, "import os; print(open(os.environ['GANFLOW_SBOM']).read())"))
        names = {component["name"] for component in bill["components"]}
        assert bill["bomFormat"] == "CycloneDX"
        assert {"ganflow", "kfp"} <= names
        assert ("torch" in names) == (target == "cpu")
        assert inside(image, "import ganflow.steps, ganflow.registry, ganflow.custody; print('imported')") == "imported"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    with mlflow_server(tmp_path, use_store(empty_store(tmp_path), tmp_path)) as url:
        yield url


def test_the_pipeline_from_the_images_gives_the_scores_of_dvc(
    images: dict[str, str], project: Path, server: str, tmp_path: Path
) -> None:
    out = tmp_path / "kfp"
    tmp_path.chmod(0o755)
    for parent in (project, *project.parents):
        if parent != Path("/") and parent.stat().st_uid == os.getuid():
            parent.chmod(parent.stat().st_mode | 0o755)
    command = ["ganflow", "pipeline", "run", "data/fashion-mnist", "--runner", "docker", "--out", str(out), "--json"]
    said = shell(project, *command, MLFLOW_TRACKING_URI=server)
    outputs = json.loads(said[said.rindex('{"outputs"') :])
    assert outputs["decision"]["verdict"] == "promoted"
    found = outputs["outputs"]
    ours = {
        "prepare": "prepared/images.npy",
        "train": "model/generator.safetensors",
        "evaluate": "evaluation/scores.json",
    }
    for step, name in ours.items():
        made = Path(found[step]) / Path(name).name
        assert file_hash(made) == file_hash(project / "run" / name), name
        assert made.stat().st_uid == (1000 if os.getuid() == 0 else os.getuid())


def test_a_killed_training_container_goes_on_to_the_same_bits(
    images: dict[str, str], project: Path, server: str, tmp_path: Path
) -> None:
    shutil.copytree(project / "run" / "prepared", tmp_path / "in" / "prepared")
    shutil.copytree(project / "run" / "reference", tmp_path / "in" / "reference")
    shutil.copy(project / "params.yaml", tmp_path / "in")
    for folder in ("whole", "cut"):
        (tmp_path / folder).mkdir()
    subprocess.run(["chmod", "-R", "a+rwX", str(tmp_path)], check=True)
    for parent in tmp_path.parents:
        if parent != Path("/") and parent.stat().st_uid == os.getuid():
            parent.chmod(parent.stat().st_mode | 0o711)

    def command(out: str, *options: str) -> list[str]:
        mounts = ["--volume", f"{tmp_path / 'in'}:/in:ro", "--volume", f"{tmp_path / out}:/out"]
        verb = ["ganflow", "train", "/in/prepared", "/out/model", "--reference", "/in/reference", "--resume"]
        more = ["--params", "/in/params.yaml", "--set", "train.total_images=12800"]
        environment = ["--env", f"MLFLOW_TRACKING_URI={server}", "--env", f"MLFLOW_EXPERIMENT_NAME={out}"]
        return ["run", *BARE, *options, *mounts, *environment, images["cpu"], *verb, *more]

    docker(*command("whole"))
    docker(*command("cut", "--detach", "--name", "ganflow-cut"))
    states = tmp_path / "cut" / "model" / "checkpoints"
    for _ in range(600):
        if len(list(states.glob("*.json"))) >= 2:
            break
        time.sleep(0.1)
    docker("kill", "--signal", "KILL", "ganflow-cut")
    docker("wait", "ganflow-cut", code=None)
    assert not (tmp_path / "cut" / "model" / "model.json").exists(), "killed too late to show anything"
    docker(*command("cut"))
    for name in ("generator.safetensors", "history.jsonl"):
        assert file_hash(tmp_path / "cut/model" / name) == file_hash(tmp_path / "whole/model" / name), name
    with sqlite3.connect(tmp_path / "mlflow.db") as store:
        query = """
            select run_uuid, step from metrics join runs using (run_uuid) join experiments using (experiment_id)
            where experiments.name = 'cut' and key = 'loss_d'
        """
        found = store.execute(query).fetchall()
    assert len({run for run, _ in found}) == 1, "one training, one run"
    steps = [step for _, step in found]
    assert len(steps) == len(set(steps)) == 12800 // 160

"""The champion as a service and as files."""

import json
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from registered import empty_store, make_model, register, use_store
from servers import free_port, stop, wait_for

from ganflow.cli import main
from ganflow.sampling import sample_array

ROOT = Path(__file__).parent.parent
SERVING = ROOT / "deploy" / "serving"


def test_ten_thousand_images_would_be_as_many_files(tmp_path, capsys):
    """130 of them: three chunks, the last one not full; again is the same, and another seed is refused."""
    make_model(tmp_path / "model", 0)
    command = ["sample", str(tmp_path / "model"), "-n", "130", "--seed", "4", "--out", str(tmp_path / "drawn")]
    assert main(command) == 0
    files = sorted((tmp_path / "drawn").glob("*.png"))
    assert [path.name for path in files[:2]] == ["0000000.png", "0000001.png"]
    drawn = np.stack([np.asarray(Image.open(path)) for path in files])
    assert np.array_equal(drawn, sample_array(tmp_path / "model", 4, 130)[:, 0])
    files[7].unlink()
    assert main(command) == 0
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 130
    command[5] = "5"
    assert main(command) == 2
    assert "holds something else" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mlflow_models_serve_draws_what_sample_draws(tmp_path, monkeypatch):
    folder = tmp_path / "store"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", use_store(empty_store(tmp_path), folder))
    register(folder, 10.0, weights=1)
    shutil.copy(ROOT / "params.yaml", folder)
    assert main(["promote", "--set", "register.name=tiny"]) == 0
    port = free_port()
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "mlflow",
        "models",
        "serve",
        "--model-uri",
        "models:/tiny@champion",
    ]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    with (tmp_path / "serve.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", seconds=120)
        body = json.dumps({"inputs": {"seed": [4], "count": [3]}}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            drawn = np.array(json.load(answer)["predictions"], dtype=np.uint8)
    finally:
        stop(server)
    assert np.array_equal(drawn, sample_array(folder / "made/1-10.0-0/model", 4, 3))


def test_the_manifests_serve_the_aliases_with_secrets_by_reference():
    names = yaml.safe_load((SERVING / "kustomization.yaml").read_text())["resources"]
    documents = {name: yaml.safe_load((SERVING / name).read_text()) for name in names}
    for alias in ("champion", "candidate"):
        [container] = documents[f"{alias}.yaml"]["spec"]["predictor"]["containers"]
        assert f"models:/fashion-mnist@{alias}" in container["command"]
        assert container["envFrom"] == [{"secretRef": {"name": "mlflow-client"}}]
        assert container["image"] == "ganflow"
    backends = documents["canary.yaml"]["spec"]["rules"][0]["backendRefs"]
    served = {f"{documents[f'{alias}.yaml']['metadata']['name']}-predictor" for alias in ("champion", "candidate")}
    assert {backend["name"] for backend in backends} == served

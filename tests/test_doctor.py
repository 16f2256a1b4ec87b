"""Each check of the doctor, well and ill, against real servers."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import time

import pytest
from conftest import ROOT
from registered import empty_store, use_store
from servers import mlflow_server, s3, weed
from trainer_api import trainer_api

from ganflow import doctor
from ganflow.doctor import Needs
from ganflow.image_registry import registry_of
from ganflow.pin import make_pin
from ganflow.resources import bytes_of

DIGEST = "sha256:" + "a" * 64


def examined(code: int = 1, cwd: Path | None = None, **environment: str) -> dict[str, dict[str, str]]:
    """The findings of `ganflow doctor --cluster`, by check, in a process with this environment alone."""
    command = [sys.executable, "-W", "ignore", "-m", "ganflow", "doctor", "--cluster", "--json"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AWS_", "GANFLOW_"))}
    done = subprocess.run(command, cwd=cwd, env=clean | environment, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return {finding["check"]: finding for finding in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return empty_store(tmp_path_factory.mktemp("empty"))


class Registry(BaseHTTPRequestHandler):
    """Speaks as an image registry does: a token for whoever asks, private images for nobody; its clock is wrong."""

    def do_HEAD(self) -> None:
        if "private" in self.path or self.headers.get("Authorization") != "Bearer t":
            self.send_response_only(401)
            realm = f"http://127.0.0.1:{self.server.server_address[1]}/token"
            self.send_header("WWW-Authenticate", f'Bearer realm="{realm}",service="here",scope="pull"')
        else:
            known = self.path == f"/v2/team/ganflow/manifests/{DIGEST}"
            self.send_response_only(200 if known else 404)
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response_only(200)
        self.send_header("Date", formatdate(time() - 600, usegmt=True))
        self.end_headers()
        self.wfile.write(b'{"token": "t"}' if self.path == "/token?service=here&scope=pull" else b"OK")

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def registry() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def store(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", use_store(empty, tmp_path))


def image_finding(image: str) -> doctor.Finding:
    return doctor.examine(Needs(images=(image,)))[-1]


@pytest.mark.usefixtures("store")
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_images_are_asked_for_at_their_registry(registry: str) -> None:
    states = {
        f"{registry}/team/ganflow@{DIGEST}": ("ok", "can be pulled"),
        f"{registry}/team/ganflow:1.0": ("failed", "push it, or correct the name"),
        f"{registry}/private/ganflow@{DIGEST}": ("skipped", "image_pull_secrets"),
        "ganflow:0.1.0": ("skipped", "names no registry"),
        "127.0.0.1:9/team/ganflow:1.0": ("failed", "does not answer"),
        "reg.example.org:abc/team/ganflow:1.0": ("failed", "nonnumeric port: 'abc'); check the name"),
        f"{registry}/team/gan flow:1.0": ("failed", "check the name and the network"),
    }
    for image, (state, said) in states.items():
        found = image_finding(image)
        assert (found.check, found.state) == ("image", state), found
        assert said in found.said


@pytest.mark.parametrize(
    ("image", "host"),
    [
        ("ganflow:1", None),
        ("team/ganflow:1", None),
        ("ghcr.io/team/ganflow:1", "ghcr.io"),
        ("localhost/ganflow", "localhost"),
        (f"host:5000/a/b@{DIGEST}", "host:5000"),
    ],
)
def test_the_registry_in_a_name(image: str, host: str | None) -> None:
    assert registry_of(image) == host


def test_memory_is_read_as_kubernetes_writes_it() -> None:
    assert [bytes_of(text) for text in ("64Mi", "1.5Gi", "2G", "8k")] == [64 << 20, 3 << 29, 2 * 10**9, 8000]


def test_a_bare_pod_has_no_server_and_its_own_files_are_none(tmp_path: Path) -> None:
    found = examined(cwd=tmp_path)
    for check in ("tracking", "registry", "clock"):
        assert found[check]["state"] == "failed"
        assert "MLFLOW_TRACKING_URI is not set; give it in the config map" in found[check]["said"]
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("store")
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_data_in_a_folder_of_this_machine_is_nothing_to_a_cluster() -> None:
    def found(cluster: bool) -> doctor.Finding:
        pin = make_pin(ROOT / "data" / "fashion-mnist").model_dump_json()
        return next(one for one in doctor.examine(Needs(raw=pin, cluster=cluster)) if one.check == "data")

    assert found(cluster=False).state == "ok"
    assert found(cluster=True).state == "failed"
    assert "data/remote, a folder of one machine that no pod sees" in found(cluster=True).said


def test_a_bare_machine_is_well_and_a_bare_pod_is_not(empty: Path, tmp_path: Path) -> None:
    found = examined(MLFLOW_TRACKING_URI=use_store(empty, tmp_path))
    assert found["object store"]["state"] == "failed"
    assert "GANFLOW_CHECKPOINTS is not set; give it in the config map" in found["object store"]["said"]
    well = {name for name, finding in found.items() if finding["state"] == "ok"}
    assert well == {"tracking", "registry", "shared memory"}
    assert {name for name, finding in found.items() if finding["state"] == "skipped"} == {
        "data", "gpu", "several nodes", "clock",
    }  # fmt: skip


@pytest.mark.usefixtures("store")
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_what_a_profile_wants_and_the_machine_lacks() -> None:
    found = {one.check: one for one in doctor.examine(Needs(raw="nowhere", accelerators=99, shm="900Gi"))}
    assert {name for name, one in found.items() if one.state == "failed"} == {"data", "gpu", "shared memory"}
    assert "of 99 GPUs are visible" in found["gpu"].said
    assert "the profile wants 900Gi; mount a memory volume" in found["shared memory"].said
    assert "nowhere is not there" in found["data"].said


@pytest.mark.usefixtures("store")
@pytest.mark.filterwarnings("ignore")  # MLflow's own
def test_several_nodes_need_trainjobs_and_the_right_to_make_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(nodes: int = 2) -> tuple[str, str]:
        [one] = [one for one in doctor.examine(Needs(nodes=nodes)) if one.check == "several nodes"]
        return one.state, one.said

    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    state, said = found()
    assert (state, "set KUBECONFIG, or run in a pod" in said) == ("failed", True)
    with trainer_api(tmp_path / "kubeconfig") as kubernetes:
        assert found() == ("ok", "TrainJobs can be made in the namespace runs")
        assert found(1)[0] == "skipped"
        kubernetes.rights = {("create", "trainjobs"), ("get", "trainjobs"), ("list", "pods")}
        state, said = found()
        assert state == "failed"
        assert "in the namespace runs we may not delete trainjobs, get pods/log; give the service account" in said
        kubernetes.installed = False
        assert "Kubernetes knows no TrainJobs; install Kubeflow Trainer" in found()[1]


def test_a_wrong_clock_and_a_server_that_is_none(registry: str) -> None:
    found = examined(MLFLOW_TRACKING_URI=f"http://{registry}")
    assert found["clock"]["state"] == "failed"
    assert re.search(r"here is (59|60)\d s ahead of", found["clock"]["said"])
    assert found["tracking"]["state"] == "failed"


def test_a_dead_server_is_said_at_once() -> None:
    found = examined(MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert [found[name]["state"] for name in ("tracking", "registry", "clock")] == ["failed"] * 3
    assert "check MLFLOW_TRACKING_URI" in found["clock"]["said"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:port", "http://a b"])
def test_an_address_that_is_none_hides_no_other_finding(url: str) -> None:
    found = examined(MLFLOW_TRACKING_URI=url)
    assert [found[name]["state"] for name in ("tracking", "registry", "clock")] == ["failed"] * 3
    assert f"{url} does not answer (" in found["clock"]["said"]


@pytest.mark.slow
def test_a_server_that_refuses_its_own_name(empty: Path, tmp_path: Path) -> None:
    """As a Kubernetes service without --allowed-hosts does; with it all is well."""
    store = use_store(empty, tmp_path)
    with mlflow_server(tmp_path, store, "--allowed-hosts", "elsewhere") as url:
        found = examined(MLFLOW_TRACKING_URI=url)
        host = url.removeprefix("http://")
        assert (
            f"MLflow refuses its own name {host}; start `mlflow server` with --allowed-hosts {host}"
            in (found["tracking"]["said"])
        )
    with mlflow_server(tmp_path, store) as url:
        found = examined(MLFLOW_TRACKING_URI=url)
        assert [found[name]["state"] for name in ("tracking", "registry", "clock")] == ["ok"] * 3


@pytest.mark.slow
@pytest.mark.skipif(weed() is None, reason="SeaweedFS is not installed")
def test_the_object_store_is_written_and_read(empty: Path, tmp_path: Path) -> None:
    store = use_store(empty, tmp_path)
    with s3(tmp_path, "checkpoints") as variables:
        common = {"MLFLOW_TRACKING_URI": store, **variables}
        assert examined(0, **common, GANFLOW_CHECKPOINTS="s3://checkpoints/runs")["object store"]["state"] == "ok"
        denied = examined(**common | {"AWS_SECRET_ACCESS_KEY": "x"}, GANFLOW_CHECKPOINTS="s3://checkpoints")
        assert "access denied" in denied["object store"]["said"]

"""A pod that is preempted loses its disk: the next one goes on from the store, to the same bits."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from runs import DATA, SMALL, Script, StopAfter, assert_same, noise, run
from servers import s3, weed

from ganflow.artifacts import Model
from ganflow.config import Train
from ganflow.errors import Interrupted, StoreError
from ganflow.objects import open_store
from ganflow.training import Mirror, begin, conclude, train

EVERY = {"checkpoint_every_images": 32}
SCORES = {
    f"at_{images}": score for images, score in zip(range(32, 321, 32), (9, 8, 3, 7, 6, 5, 4, 5, 6, 7), strict=True)
}


def pod(out: Path, run_id: str = "run-1", seconds: str = "30", **how: object) -> Model:
    """A training in a pod whose disk is `out`."""
    os.environ |= {"KFP_RUN_ID": run_id, "GANFLOW_GRACE_SECONDS": seconds}
    settings, model, sets = Train(**{**SMALL, **EVERY}), Model(out), noise()
    mirror = Mirror.of(model)
    assert mirror
    state = begin(DATA, sets, settings, model, resume=True, mirror=mirror)
    if not model.mlflow_run.exists():
        model.mlflow_run.write_text(json.dumps({"run_id": out.name}))
    with closing(mirror):
        train(state, sets, DATA, settings, model, judge=Script(**SCORES), mirror=mirror, **how)
    run_file = model.mlflow_run.read_text()
    conclude(model)
    (out / "mlflow_run").write_text(run_file)
    return model


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("KFP_RUN_ID", "GANFLOW_GRACE_SECONDS"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("GANFLOW_CHECKPOINTS", str(tmp_path / "store"))
    return tmp_path / "store"


def whole(folder: Path) -> Model:
    return run(folder, judge=Script(**SCORES), **EVERY)


def test_another_pod_goes_on_to_the_same_bits_in_the_same_mlflow_run(store: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        pod(tmp_path / "pod-1", stop=StopAfter(13))
    shutil.rmtree(tmp_path / "pod-1")
    images: list[int] = []
    again = pod(tmp_path / "pod-2", advance=lambda done, total: images.append(done))
    assert images[0] == 13 * 16 + 16, "what SIGTERM saved was the last to be sent"
    assert_same(whole(tmp_path / "whole"), again)
    assert again.read_card()["images_seen"] == 96, "the best state came back too"
    assert json.loads((tmp_path / "pod-2/mlflow_run").read_text())["run_id"] == "pod-1"


def test_a_checkpoint_without_its_card_or_damaged_is_not_there(store: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        pod(tmp_path / "pod-1", stop=StopAfter(13))
    cards = sorted(store.rglob("card.json"))
    assert [int(card.parent.name) for card in cards] == [32, 64, 96, 128, 160, 192, 208]
    cards[-1].unlink()
    images: list[int] = []
    again = pod(tmp_path / "pod-2", advance=lambda done, total: images.append(done))
    assert images[0] == 192 + 16
    assert_same(whole(tmp_path / "whole"), again)


def test_another_run_begins_anew(store: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        pod(tmp_path / "pod-1", stop=StopAfter(13))
    images: list[int] = []
    pod(tmp_path / "pod-2", "run-2", advance=lambda done, total: images.append(done))
    assert images[0] == 16


def test_a_store_that_goes_down_ends_nothing_and_is_said_once(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def break_it(done: int, total: int) -> None:
        if done == 64:
            while not list(store.rglob("000000032/card.json")):  # the sender is at rest after a card
                time.sleep(0.01)
            shutil.rmtree(store)
            store.write_text("no folder")

    model = pod(tmp_path / "pod-2", seconds="1", advance=break_it)
    assert_same(whole(tmp_path / "whole"), model)
    assert capsys.readouterr().err.count("could not leave this machine") == 1


@pytest.mark.usefixtures("store")
def test_a_store_that_cannot_be_read_is_no_empty_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "GANFLOW_CHECKPOINTS": "s3://checkpoints/runs", "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match="no whole answer from"):
        pod(tmp_path / "pod-1")


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if weed() is None:
        pytest.skip("SeaweedFS is not installed")
    with s3(tmp_path, "checkpoints") as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        for name in ("KFP_RUN_ID", "GANFLOW_GRACE_SECONDS"):
            monkeypatch.setenv(name, "")
        monkeypatch.setenv("GANFLOW_CHECKPOINTS", "s3://checkpoints/runs")
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("bucket")
def test_kills_at_any_moment_with_a_real_object_store(tmp_path: Path) -> None:
    """Each pod is killed with SIGKILL some steps later than the one before, and its disk is gone.

    How far one comes is the store's speed; the last lives for all the 20 steps.
    """
    store, first, attempts = open_store("s3://checkpoints/runs"), None, 0
    for attempts in range(1, 18):
        out = tmp_path / f"pod-{attempts}"
        child = os.fork()
        if child == 0:
            steps = 0

            def count(done: int, total: int, limit: int = 3 + attempts) -> None:
                nonlocal steps
                steps += 1
                if steps > limit:
                    os.kill(os.getpid(), signal.SIGKILL)

            pod(out, advance=count)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if first is None and any(key.endswith("/card.json") for key in store.list()):
            first = attempts
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        shutil.rmtree(out)
    assert attempts > 2, "no kill came before the end"
    assert_same(whole(tmp_path / "whole"), Model(out))
    assert json.loads((out / "mlflow_run").read_text())["run_id"] == f"pod-{first}", "the first that left a state"

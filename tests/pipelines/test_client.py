"""The client's patience, against a real HTTP server that fails in every way."""

import socket
import threading
import time
from pathlib import Path

import pytest
from kfp_api import Fault, State, run

from ganflow.errors import ConfigError, GanflowError
from pipelines.client import Cluster, Missing, Unreachable, filtered


def get(cluster: Cluster, run_id: str = "r1") -> object:
    return cluster.ask("runs", "run_service_get_run", run_id)


@pytest.mark.parametrize("kind", [500, 502, 503, 504, 429, "drop"])
def test_trouble_passes(kfp: State, kind: int | str, capsys: pytest.CaptureFixture[str]) -> None:
    kfp.runs.append(run("r1"))
    cluster = Cluster()
    kfp.faults.append(Fault("/runs/r1", kind, times=5 if kind == "drop" else 2))
    assert get(cluster).run_id == "r1"  # type: ignore[attr-defined]
    assert "asking again" in capsys.readouterr().err


def test_trouble_that_stays_is_one_sentence(kfp: State) -> None:
    cluster = Cluster(patience_seconds=1)
    kfp.faults.append(Fault("/runs/r1", 500, times=1000))
    with pytest.raises(Unreachable, match="is in trouble .500 InternalServerError: the database is gone.$") as caught:
        get(cluster)
    assert "\n" not in str(caught.value)


def test_no_server_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("KF_PIPELINES_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(Unreachable, match="does not answer .NewConnectionError.; check KF_PIPELINES_ENDPOINT"):
            Cluster(patience_seconds=0.1)


def test_a_server_that_is_away_for_a_while(kfp: State) -> None:
    """As a port-forward that breaks, and is set up again."""
    kfp.runs.append(run("r1"))
    cluster = Cluster()
    address = kfp.url.removeprefix("http://").split(":")
    kfp.faults.append(Fault("", "drop", times=10**6))

    def mend() -> None:
        time.sleep(1.5)
        kfp.faults.clear()

    threading.Thread(target=mend).start()
    assert get(cluster).run_id == "r1"  # type: ignore[attr-defined]
    assert address


@pytest.mark.slow
def test_an_answer_that_never_comes_is_given_up(kfp: State) -> None:
    kfp.runs.append(run("r1"))
    cluster = Cluster(timeout_seconds=(2, 2))
    kfp.faults.append(Fault("/runs/r1", "hang", times=4))
    assert get(cluster).run_id == "r1"  # type: ignore[attr-defined]


def test_what_is_not_there_is_not_asked_for_again(kfp: State) -> None:
    cluster = Cluster()
    before = len(kfp.requests)
    with pytest.raises(Missing, match="knows no such thing .ResourceNotFoundError: Run r9 not found.; check the name"):
        get(cluster, "r9")
    assert len(kfp.requests) == before + 1


def test_a_bad_request_is_not_sent_again(kfp: State) -> None:
    cluster = Cluster()
    kfp.faults.append(Fault("/runs/r1", 400))
    with pytest.raises(GanflowError, match="refuses run_service_get_run .400 InternalServerError"):
        get(cluster)


def test_token_from_the_environment(kfp: State, monkeypatch: pytest.MonkeyPatch) -> None:
    kfp.tokens, kfp.runs = {"good"}, [run("r1")]
    monkeypatch.setenv("KF_PIPELINES_TOKEN", "bad")
    with pytest.raises(ConfigError, match="refuses us .401 .*; give a valid token in KF_PIPELINES_TOKEN"):
        Cluster()
    monkeypatch.setenv("KF_PIPELINES_TOKEN", "good")
    assert get(Cluster())


def test_an_expired_token_is_renewed_from_its_file(kfp: State, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(file))
    kfp.tokens, kfp.runs = {"first"}, [run("r1")]
    cluster = Cluster()
    assert get(cluster)
    kfp.tokens = {"second"}

    def renew() -> None:
        time.sleep(1)
        file.write_text("second")

    threading.Thread(target=renew).start()
    assert get(cluster)
    assert kfp.seen[-1]["authorization"] == "Bearer second"


def test_cookies_from_the_environment(kfp: State, monkeypatch: pytest.MonkeyPatch) -> None:
    kfp.runs.append(run("r1"))
    monkeypatch.setenv("KF_PIPELINES_COOKIES", "authservice_session=abc")
    get(Cluster())
    assert kfp.seen[-1]["Cookie"] == "authservice_session=abc"


def test_namespace_from_the_environment(kfp: State, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Cluster().namespace is None
    monkeypatch.setenv("KF_PIPELINES_NAMESPACE", "team")
    assert Cluster().namespace == "team"


def test_ten_thousand_runs_are_fifty_pages(kfp: State) -> None:
    kfp.runs = [run(f"r{number}") for number in range(10_000)]
    cluster = Cluster()
    found = [one.run_id for one in cluster.pages("runs", "run_service_list_runs", "runs")]
    assert found == [f"r{number}" for number in range(10_000)]
    assert kfp.asked("GET", "/runs?") == 50


def test_pages_survive_trouble_in_the_middle(kfp: State) -> None:
    kfp.runs = [run(f"r{number}") for number in range(1000)]
    cluster = Cluster()
    kfp.faults += [Fault("page_token=400", 503), Fault("page_token=600", "drop", times=4)]
    assert len(list(cluster.pages("runs", "run_service_list_runs", "runs"))) == 1000


def test_a_filter_is_the_servers_work(kfp: State) -> None:
    kfp.runs = [run(f"r{number}") for number in range(1000)]
    named = Cluster().pages("runs", "run_service_list_runs", "runs", filter=filtered("display_name", "r7"))
    assert [one.run_id for one in named] == ["r7"]
    assert kfp.asked("GET", "/runs?") == 1

"""The ledger, its chain and the aliases, in a real MLflow store."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient
from registered import empty_store, register, use_store

from ganflow import ledger, ledger_store
from ganflow.cli import main

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
ROOT = Path(__file__).parent.parent
HOME = ["--set", "register.name=tiny"]


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    return empty_store(tmp_path_factory.mktemp("empty"))


@pytest.fixture(scope="module")
def three(empty, tmp_path_factory):
    """A store with versions 1, 2 and 3 of FID 10, 9 and 12, and no champion."""
    folder = tmp_path_factory.mktemp("three")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", use_store(empty, folder))
        for seed, fid in enumerate([10.0, 9.0, 12.0]):
            register(folder, fid, seed)
    return folder


@pytest.fixture
def store(three, tmp_path, monkeypatch):
    """A copy of the store to work in; artifacts are read where they are."""
    shutil.copy(three / "mlflow.db", tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


def aliases() -> dict[str, str]:
    return {k: str(v) for k, v in MlflowClient().get_registered_model("tiny").aliases.items() if k != "candidate"}


def promote(version: int, *more: str) -> int:
    return main(["promote", "--version", str(version), *HOME, *more])


def events() -> list[tuple[str, str | None]]:
    return [(record.event, record.now) for record in ledger.records(ledger_store.read("tiny"))]


def test_promotions_refusals_forces_and_rollbacks_are_recorded(store, capsys):
    assert promote(1) == 0
    assert promote(3) == 3
    assert promote(2) == 0
    assert aliases() == {"champion": "2", "previous": "1"}
    assert promote(2) == 0  # unchanged: no record
    assert promote(3, "--force", "--reason", "a customer waits") == 0
    assert main(["rollback", *HOME, "--reason", "complaints"]) == 0
    assert aliases() == {"champion": "2", "previous": "3"}
    assert main(["rollback", "--to", "1", *HOME, "--reason", "more complaints"]) == 0
    assert events() == [
        ("promoted", "1"), ("refused", "1"), ("promoted", "2"), ("forced", "3"), ("rolled back", "2"),
        ("rolled back", "1"),
    ]  # fmt: skip
    capsys.readouterr()
    assert main(["history", *HOME, "--verify"]) == 0
    said = capsys.readouterr().out
    assert "a customer waits (the gate refused: fid_classifier_256 12.000 against the champion's 9.000" in said
    assert "verified: 6 records" in said
    assert main(["history", *HOME, "--json"]) == 0
    third = json.loads(capsys.readouterr().out)[2]
    assert (third["was"], third["now"], third["numbers"]["gain"]) == ("1", "2", 1.0)
    assert [check["rule"] for check in third["checks"]] == ["better"]
    assert len(third["passport_sha256"]) == 64
    assert "@" in third["who"]
    decision = json.loads((store / "run/decision.json").read_text())
    assert decision["verdict"] == "forced"


def test_mlflow_shows_the_ledger_as_a_table(store):
    promote(1)
    book = MlflowClient().search_runs([mlflow.get_experiment_by_name("ledger of tiny").experiment_id])[0]
    assert "| 1 | " in book.data.tags["mlflow.note.content"]
    assert "there is no champion yet" in book.data.tags["mlflow.note.content"]


def test_a_dry_run_leaves_nothing(store):
    before = (store / "mlflow.db").read_bytes()
    assert promote(1, "--dry-run") == 0
    assert (store / "mlflow.db").read_bytes() == before
    assert not (store / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["promote", "--force"], 2, "--force and --reason go together"),
        (["promote", "--reason", "x"], 2, "--force and --reason go together"),
        (["promote", "--force", "--reason", " "], 2, "say why in 1 to 500"),
        (["rollback", "--reason", "x" * 501], 2, "has 501 characters"),
        (["rollback", "--reason", "x"], 1, "no previous champion to go back to"),
        (["rollback", "--to", "1", "--reason", "x"], 1, "version 1 of tiny is the champion already"),
        (["rollback", "--to", "9", "--reason", "x"], 1, "has no whole models:/tiny/9"),
    ],
)
def test_what_cannot_be_done_is_said(store, capsys, arguments, code, message):
    promote(1)
    before = aliases(), events()
    capsys.readouterr()
    assert main([*arguments, *HOME]) == code
    assert message in capsys.readouterr().err
    assert (aliases(), events()) == before


def test_a_champion_from_before_the_ledger_is_adopted(store):
    MlflowClient().set_registered_model_alias("tiny", "champion", "1")
    assert promote(3) == 3
    assert events() == [("adopted", "1"), ("refused", "1")]
    assert aliases() == {"champion": "1"}


def test_an_alias_moved_by_hand_goes_back_and_is_said(store, capsys):
    promote(1)
    MlflowClient().set_registered_model_alias("tiny", "champion", "3")
    assert main(["history", "--verify", *HOME]) == 1
    assert "the alias champion is at 3, and the ledger says 1" in capsys.readouterr().err
    assert promote(2) == 0
    assert "was moved to version 3 by hand" in capsys.readouterr().err
    assert (aliases(), events()[-1]) == ({"champion": "2", "previous": "1"}, ("promoted", "2"))


def test_a_deleted_champion_stops_promotions_but_not_a_rollback(store, capsys):
    promote(1)
    promote(2)
    MlflowClient().delete_model_version("tiny", "2")
    assert promote(3) == 1
    assert "has no whole models:/tiny/2" in capsys.readouterr().err
    assert main(["rollback", *HOME, "--reason", "2 is gone"]) == 0
    assert aliases() == {"champion": "1"}
    assert main(["history", "--verify", *HOME]) == 1, "previous was 2, and 2 is gone: an auditor is told"


def edit(store: Path, sql: str, *values: str) -> None:
    with sqlite3.connect(store / "mlflow.db") as database:
        assert database.execute(sql, values).rowcount == 1


CHANGE = "update params set value = replace(value, ?, ?) where key = ? and value like '%nonce%'"
REMOVE = "delete from params where key = ? and value like '%nonce%'"


@pytest.mark.parametrize(
    ("sql", "values", "message"),
    [
        (CHANGE, ('"rolled back"', '"promoted"', "000003"), "record 3 was edited: record 4 remembers another"),
        (CHANGE, ("3", "4", "000002"), "record 2 was edited"),
        (CHANGE, ("refused", "promoted", "000004"), "record 4 was edited: the registry remembers another"),
        (CHANGE, ("{", "", "000002"), "record 2 was edited: it cannot be read as one"),
        (REMOVE, ("000001",), "record 1 was removed"),
        (REMOVE, ("000003",), "record 3 was removed"),
        (REMOVE, ("000004",), "record 4 was removed"),
    ],
)
def test_an_edited_or_removed_record_shows_now_and_ever_after(store, capsys, sql, values, message):
    promote(1)
    promote(2)
    main(["rollback", *HOME, "--reason", "x"])
    promote(3)
    edit(store, sql, *values)
    assert main(["history", "--verify", *HOME]) == 1
    assert message in capsys.readouterr().err
    promote(2)
    promote(3)
    assert main(["history", "--verify", *HOME]) == 1
    said = capsys.readouterr().err
    assert message.split(":")[0] in said


def test_a_deleted_ledger_is_named(store, capsys):
    promote(1)
    experiment = mlflow.get_experiment_by_name("ledger of tiny").experiment_id
    MlflowClient().delete_experiment(experiment)
    assert promote(2) == 1
    assert f"--experiment-id {experiment}" in capsys.readouterr().err
    MlflowClient().restore_experiment(experiment)
    assert promote(2) == 0


def test_an_unlike_champion_is_refused_and_says_how(three, tmp_path, monkeypatch, capsys):
    shutil.copytree(three, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    shutil.copy(ROOT / "params.yaml", ".")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/copy/mlflow.db")
    promote(1)
    version = register(tmp_path / "copy", 5.0, weights=7, seed=3)
    assert promote(int(version)) == 3
    assert "seed is 0 there and 3 here" in capsys.readouterr().err


def test_a_version_that_draws_other_images_is_never_rolled_back_to(three, tmp_path, monkeypatch, capsys):
    """The weights of version 1 are replaced, with a card that fits them: only its recorded samples can tell."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", ".")
    shutil.copy(three / "mlflow.db", ".")
    shutil.copytree(three / "mlruns", "mlruns")
    with sqlite3.connect("mlflow.db") as database:
        for table, column in (("logged_models", "artifact_location"), ("model_versions", "storage_location")):
            database.execute(f"update {table} set {column} = replace({column}, ?, ?)", [str(three), str(tmp_path)])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    promote(1)
    promote(2)
    folders = {
        number: Path(MlflowClient().get_model_version_download_uri("tiny", number)) / "data/model" for number in "12"
    }
    for name in ("generator.safetensors", "model.json"):
        shutil.copy(folders["2"] / name, folders["1"] / name)
    capsys.readouterr()
    assert main(["rollback", *HOME, "--reason", "x"]) == 1
    assert "draws other images than its recorded samples.png" in capsys.readouterr().err
    (folders["1"] / "generator.safetensors").write_bytes(b"cut")
    assert main(["rollback", *HOME, "--reason", "x"]) == 1
    assert "does not load" in capsys.readouterr().err
    assert aliases() == {"champion": "2", "previous": "1"}
    assert events()[-1] == ("promoted", "2")


ONE, TWO, THREE = (["promote", "--version", version, *HOME] for version in "123")
FORCE, ROLLBACK = [*THREE, "--force", "--reason", "x"], ["rollback", *HOME, "--reason", "x"]
KILLED = [
    {"before": [], "command": ONE, "next": TWO},
    {"before": [ONE], "command": TWO, "next": THREE},
    {"before": [ONE], "command": THREE, "next": TWO},
    {"before": [ONE], "command": FORCE, "next": FORCE},
    {"before": [ONE, TWO], "command": ROLLBACK, "next": TWO},
]


@pytest.mark.slow
def test_killed_anywhere_the_next_command_repairs(store):
    """A first promotion, a second, a refusal, a force and a rollback, each killed at every point."""
    work = store / "work"
    work.mkdir()
    shutil.copy(ROOT / "params.yaml", work)
    script = [sys.executable, "-W", "ignore", str(ROOT / "tests/kill_points.py"), str(store), str(work)]
    said = subprocess.run([*script, json.dumps(KILLED)], capture_output=True, text=True, check=True).stdout
    runs = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [run for run in runs if run["after"] != 0] == []
    assert len([run for run in runs if run["code"] == -9]) >= 100


@pytest.mark.slow
def test_twenty_promoters_leave_one_champion_that_is_the_last_record(three, store):
    """Twenty processes, each promoting one of three versions by force, against one another."""
    work = store / "work"
    work.mkdir()
    shutil.copy(ROOT / "params.yaml", work)
    commands = [
        ["promote", "--version", str(i % 3 + 1), "--force", "--reason", f"promoter {i}", "--out", f"{i}.json", *HOME]
        for i in range(20)
    ]
    script = [sys.executable, "-W", "ignore", str(ROOT / "tests/promoters.py"), str(three), str(work)]
    done = subprocess.run([*script, json.dumps(commands)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [0] * 20, done.stderr
    mlflow.set_tracking_uri(f"sqlite:///{work}/mlflow.db")
    try:
        moved = [record for record in ledger.records(ledger_store.read("tiny")) if record.event in ledger.MOVES]
        assert len(moved) > 1
        assert aliases() == {"champion": moved[-1].now, "previous": moved[-1].was}
        assert [record.was for record in moved[1:]] == [record.now for record in moved[:-1]], "each on the one before"
        assert ledger_store.verify("tiny") == []
    finally:
        mlflow.set_tracking_uri(None)

"""`ganflow pipeline schedule`: the cluster is brought to what the file says, and a second time nothing happens."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp_api import Fault, State
from test_submit import PINNED, _in_the_repository, repository

from ganflow.cli import main

__all__ = ["_in_the_repository", "repository"]

NIGHTLY = {"name": "nightly", "raw": "raw", "profile": "gpu", "cron": "0 0 2 * * *", "set": ["train.seed=3"]}
HOURLY = {"name": "hourly", "raw": "raw", "profile": "cpu", "interval_seconds": 3600}


def apply(folder: Path, *schedules: dict[str, Any]) -> int:
    file = folder / "schedules.yaml"
    file.write_text(yaml.safe_dump({"schedules": list(schedules)}))
    return main(["pipeline", "schedule", "apply", str(file), *PINNED])


def test_created_replaced_disabled_enabled_and_left_alone(
    kfp: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*schedules: dict[str, Any]) -> str:
        assert apply(tmp_path, *schedules) == 0
        return capsys.readouterr().out

    assert said(NIGHTLY, HOURLY) == "nightly: created\nhourly: created\n"
    nightly, hourly = kfp.recurring
    assert nightly.trigger.cron_schedule.cron == "0 0 2 * * *"
    assert hourly.trigger.periodic_schedule.interval_second == "3600"
    assert (nightly.status, nightly.no_catchup, nightly.max_concurrency) == ("ENABLED", True, "1")
    assert nightly.service_account == "ganflow"
    assert json.loads(nightly.runtime_config.parameters["train"])["seed"] == 3

    assert said(NIGHTLY, HOURLY) == "nightly: unchanged\nhourly: unchanged\n"
    assert [one.recurring_run_id for one in kfp.recurring] == [nightly.recurring_run_id, hourly.recurring_run_id]

    assert said(NIGHTLY | {"cron": "0 30 2 * * *"}, HOURLY) == "nightly: replaced\nhourly: unchanged\n"
    assert sorted(one.display_name for one in kfp.recurring) == ["hourly", "nightly"]
    assert nightly.recurring_run_id not in {one.recurring_run_id for one in kfp.recurring}

    assert (
        said(NIGHTLY | {"cron": "0 30 2 * * *", "enabled": False}, HOURLY) == "nightly: disabled\nhourly: unchanged\n"
    )
    assert said(NIGHTLY | {"cron": "0 30 2 * * *"}) == "nightly: enabled\nhourly: disabled\n"
    assert {one.display_name: one.status for one in kfp.recurring} == {"nightly": "ENABLED", "hourly": "DISABLED"}


def test_new_data_is_a_new_schedule(
    kfp: State, tmp_path: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from conftest import shell

    assert apply(tmp_path, HOURLY) == 0
    (repository / "raw" / "b.txt").write_text("b")
    shell(repository, "dvc", "add", "--quiet", "raw")
    assert apply(tmp_path, HOURLY) == 0
    assert capsys.readouterr().out == "hourly: created\nhourly: replaced\n"


@pytest.mark.parametrize("kind", [503, "drop", "lose"])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_nothing_is_left_over_whatever_breaks(kfp: State, tmp_path: Path, method: str, kind: Any) -> None:
    assert apply(tmp_path, HOURLY) == 0
    kfp.faults.append(Fault(f"{method} /recurringruns", kind))
    assert apply(tmp_path, HOURLY | {"interval_seconds": 60}) == 0
    [one] = kfp.recurring
    assert one.trigger.periodic_schedule.interval_second == "60"


def test_what_others_made_is_not_touched(kfp: State, tmp_path: Path) -> None:
    assert apply(tmp_path, HOURLY) == 0
    kfp.recurring[0].description = "made by hand"
    assert apply(tmp_path) == 0
    assert kfp.recurring[0].status == "ENABLED"
    assert apply(tmp_path, HOURLY) == 0
    assert len(kfp.recurring) == 2


def test_list_and_delete(kfp: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert apply(tmp_path, NIGHTLY, HOURLY) == 0
    capsys.readouterr()
    assert main(["pipeline", "schedule", "list"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == ["name", "nightly", "hourly"]
    assert main(["pipeline", "schedule", "list", "--json"]) == 0
    assert {one["when"] for one in json.loads(capsys.readouterr().out)} == {"0 0 2 * * *", "every 3600 s"}
    assert main(["pipeline", "schedule", "delete", "nightly"]) == 0
    assert [one.display_name for one in kfp.recurring] == ["hourly"]
    assert main(["pipeline", "schedule", "delete", "nightly"]) == 2
    assert "there is no schedule nightly; there are hourly" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"schedules": [{"name": "a", "raw": "raw", "profile": "cpu"}]}, "give one of cron and interval_seconds"),
        ({"schedules": [HOURLY | {"cron": "0 0 2 * *", "interval_seconds": None}]}, "it has six fields"),
        ({"schedules": [HOURLY, HOURLY]}, "two schedules are named hourly"),
        ({"schedules": [HOURLY | {"evry": 3}]}, "evry is not a parameter"),
        ({"schedules": [HOURLY | {"profile": "tpu"}]}, "there is no profile tpu"),
        ([HOURLY | {"set": ["train.sed=1"]}], "sed is not a parameter; did you mean seed"),
        ("nothing", "schedules is 'nothing'"),
    ],
)
def test_a_bad_file_changes_nothing(
    content: Any, message: str, kfp: State, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "schedules.yaml"
    file.write_text(yaml.safe_dump(content))
    assert main(["pipeline", "schedule", "apply", str(file), *PINNED]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert kfp.recurring == []


def test_one_bad_schedule_leaves_the_others_alone(kfp: State, tmp_path: Path) -> None:
    assert apply(tmp_path, HOURLY, NIGHTLY | {"raw": "nowhere"}) == 1
    assert kfp.recurring == []

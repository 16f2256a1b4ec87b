"""`ganflow pipeline wait`, `logs` and `cancel`: every way in which a run ends, and exit codes that say so."""

import io
import json

import kfp_server_api as api
import pytest
from kfp_api import WORKFLOW, Fault, State, node, pod, run, task

from ganflow.cli import main
from pipelines.watch import Screen, tasks_of, word


def wait(*more: str) -> int:
    return main(["pipeline", "wait", "r1", "--interval", "0.02", *more])


TASKS = [
    task("prepare", "SUCCEEDED", 1, cached=True),
    task("reference", "SUCCEEDED", 2, tries=2),
    task("train", "RUNNING", 3),
    task("evaluate", None, 4),
]


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("SUCCEEDED", 0, "run r1: SUCCEEDED"),
        ("FAILED", 1, "ganflow: run r1 failed; `ganflow pipeline logs r1` has more"),
        ("CANCELED", 1, "ganflow: run r1 was cancelled; `ganflow pipeline logs r1` has more"),
        ("SKIPPED", 1, "ganflow: run r1 was skipped: nothing of it was run; `ganflow pipeline logs r1` has more"),
    ],
)
def test_every_end_has_its_exit_code(
    kfp: State, end: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kfp.runs.append(run("r1"))
    kfp.script = ["RUNTIME_STATE_UNSPECIFIED", "PENDING", "RUNNING", "PAUSED", "RUNNING", "CANCELING", end]
    assert wait() == code
    assert capsys.readouterr().err.splitlines()[-1] == said
    assert kfp.script == []


def test_the_failed_task_is_named(kfp: State, capsys: pytest.CaptureFixture[str]) -> None:
    failed = task("train", "FAILED", 2, tries=4, error=api.GoogleRpcStatus(message="OOMKilled"))
    kfp.runs.append(run("r1", "FAILED", [task("prepare", "SUCCEEDED", tries=2), failed]))
    assert wait() == 1
    assert "run r1 failed: train failed (OOMKilled); `ganflow" in capsys.readouterr().err


def test_the_runs_own_error_is_said(kfp: State, capsys: pytest.CaptureFixture[str]) -> None:
    kfp.runs.append(run("r1", "FAILED", error=api.GoogleRpcStatus(message="the workflow is invalid")))
    assert wait() == 1
    assert "run r1 failed: the workflow is invalid; " in capsys.readouterr().err


def test_watching_survives_everything(kfp: State, capsys: pytest.CaptureFixture[str]) -> None:
    kfp.runs.append(run("r1"))
    kfp.script = ["RUNNING"] * 4 + ["SUCCEEDED"]
    kfp.faults += [Fault("/runs/r1", 500), Fault("/runs/r1", 503), Fault("/runs/r1", "drop", times=4)]
    assert wait() == 0
    said = capsys.readouterr().err
    assert "asking again" in said
    assert "Traceback" not in said


def test_a_run_that_takes_too_long_goes_on(kfp: State, capsys: pytest.CaptureFixture[str]) -> None:
    kfp.runs.append(run("r1"))
    assert wait("--timeout", "0.1") == 1
    assert "run r1 has not ended in 0.1 s, and goes on; `ganflow pipeline wait r1` takes up" in capsys.readouterr().err


def test_a_run_that_is_not_there(kfp: State, capsys: pytest.CaptureFixture[str]) -> None:
    assert wait() == 1
    assert "knows no such thing (ResourceNotFoundError: Run r1 not found)" in capsys.readouterr().err


def test_a_log_has_a_line_for_each_change(kfp: State, capsys: pytest.CaptureFixture[str]) -> None:
    kfp.runs.append(run("r1", tasks=TASKS))
    kfp.script = ["RUNNING"] * 5 + ["SUCCEEDED"]
    assert wait() == 0
    assert capsys.readouterr().err.splitlines() == [
        "run r1: RUNNING", "prepare: cached", "reference: succeeded", "train: running", "evaluate: pending",
        "run r1: SUCCEEDED",
    ]  # fmt: skip


def test_a_terminal_has_a_table_drawn_over_itself() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    screen = Screen(out)
    one = run("r1", tasks=TASKS)
    screen.show(one)
    screen.show(one)
    first, second = out.getvalue().split("\x1b[6A")
    assert first == second
    lines = [line.removeprefix("\x1b[2K").split() for line in first.splitlines()]
    assert lines[0] == ["run", "r1:", "RUNNING"]
    assert lines[1] == ["task", "state", "started", "took"]
    assert lines[2] == ["prepare", "cached", "08:01:00"]
    assert lines[3] == ["reference", "succeeded", "08:02:00", "30", "s"]
    assert lines[4][:3] == ["train", "running", "08:03:00"]
    assert lines[5] == ["evaluate", "pending"]


def test_json(kfp: State, capsys: pytest.CaptureFixture[str]) -> None:
    kfp.runs.append(run("r1", "SUCCEEDED", TASKS))
    assert wait("--json") == 0
    content = json.loads(capsys.readouterr().out)
    assert content["state"] == "SUCCEEDED"
    assert [(task["name"], task["cached"]) for task in content["tasks"]] == [
        ("prepare", True), ("reference", False), ("train", False), ("evaluate", False),
    ]  # fmt: skip


def test_kubeflows_own_nodes_are_left_out() -> None:
    names = [
        "exit-handler-1-driver", "for-loop-2", "iteration-item", "iteration-item(0:0)", "condition-3", "executor",
        "executor(12)", "root.onExit", "",
    ]  # fmt: skip
    one = run("r1", tasks=[[node(name, "RUNNING") for name in names], task("train", "RUNNING")])
    assert [task.name for task in tasks_of(one)] == ["train"]


def test_the_workflows_node_is_no_task_before_there_are_others() -> None:
    one = run("r1")
    one.run_details.task_details = [node(WORKFLOW, "RUNNING")]
    assert tasks_of(one) == []


def test_what_has_not_ended_has_no_end() -> None:
    assert [task.ended for task in tasks_of(run("r1", tasks=TASKS)) if task.name in ("train", "evaluate")] == [None] * 2


@pytest.mark.parametrize("tries", [0, 1])
def test_only_what_the_cache_gave_is_cached(tries: int) -> None:
    """Without retries the nodes do not tell it of some of the tasks, and it is said of none."""
    ran, cached = task("train", "SUCCEEDED", 2, tries=tries), task("prepare", "SUCCEEDED", 1, cached=True)
    end = task("summary", "SUCCEEDED", 3, tries=0)
    for tasks, expected in (
        ([cached], {"prepare"}),
        ([ran], set()),
        ([cached, ran, end], {"prepare"} if tries else set()),
    ):
        assert {task.name for task in tasks_of(run("r1", tasks=tasks)) if task.cached} == expected


def test_a_skipped_task_is_not_cached() -> None:
    assert not tasks_of(run("r1", tasks=[[node("train", "SKIPPED")]]))[0].cached


def test_a_task_that_argo_left_out_was_not_run() -> None:
    left_out = task("evaluate", "RUNTIME_STATE_UNSPECIFIED", 4)
    assert [word(found) for found in tasks_of(run("r1", "FAILED", [left_out]))] == ["not run"]


def test_logs(kfp: State, capsys: pytest.CaptureFixture[str]) -> None:
    kfp.runs.append(run("r1", tasks=[*TASKS, task("summary", "RUNNING", 5, tries=0)]))
    kfp.logs = {
        pod("reference", 0): "preempted\n", pod("reference", 1): "decoded\n", pod("train"): "step 1\nstep 2\n",
        pod("summary", None): "all\n",
    }  # fmt: skip
    assert main(["pipeline", "logs", "r1"]) == 0
    train = f"== train ({pod('train')})\nstep 1\nstep 2\n"
    assert capsys.readouterr().out == (
        f"== reference ({pod('reference', 0)})\npreempted\n== reference ({pod('reference', 1)})\ndecoded\n"
        f"{train}== summary ({pod('summary', None)})\nall\n"
    )
    assert main(["pipeline", "logs", "r1", "train"]) == 0
    assert capsys.readouterr().out == train
    assert main(["pipeline", "logs", "r1", "trian"]) == 2
    assert "run r1 has no task trian; it has evaluate, prepare, reference, summary, train" in capsys.readouterr().err


def test_logs_of_pods_that_are_gone(kfp: State, capsys: pytest.CaptureFixture[str]) -> None:
    kfp.runs.append(run("r1", tasks=TASKS))
    kfp.logs = {pod("reference", 1): "decoded\n"}
    assert main(["pipeline", "logs", "r1", "reference"]) == 0
    said = capsys.readouterr()
    assert said.out == f"== reference ({pod('reference', 1)})\ndecoded\n"
    assert f"pod {pod('reference', 0)} not found" in said.err


def test_no_log_at_all_is_an_error(kfp: State, capsys: pytest.CaptureFixture[str]) -> None:
    kfp.runs.append(run("r1", tasks=TASKS))
    for wanted in ([], ["prepare"], ["train"]):
        assert main(["pipeline", "logs", "r1", *wanted]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert "`kubectl logs -n kubeflow -l pipeline/runid=r1 -c main --prefix --tail=-1`" in said.err


def test_retry(kfp: State, capsys: pytest.CaptureFixture[str]) -> None:
    kfp.runs.append(run("r1", "FAILED"))
    assert main(["pipeline", "retry", "r1"]) == 0
    assert kfp.runs[0].state == "RUNNING"
    capsys.readouterr()
    assert main(["pipeline", "retry", "r1"]) == 1
    assert "refuses run_service_retry_run (400 Workflow cannot be retried: it is RUNNING)" in capsys.readouterr().err


def test_cancel(kfp: State, capsys: pytest.CaptureFixture[str]) -> None:
    kfp.runs.append(run("r1"))
    assert main(["pipeline", "cancel", "r1"]) == 0
    assert "run r1 is being cancelled" in capsys.readouterr().out
    assert kfp.runs[0].state == "CANCELING"
    assert main(["pipeline", "cancel", "r2"]) == 1

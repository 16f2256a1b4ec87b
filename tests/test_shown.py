"""What the Kubeflow UI shows."""

import base64
from pathlib import Path

import numpy as np

from ganflow.artifacts import Evaluation
from ganflow.promotion import Candidate, Check, Decision
from ganflow.shown import decision_page, numbers, show_evaluation, table


def test_a_decision_is_a_page() -> None:
    candidate = Candidate("3", "fid_x", 4.5, 0.1, {}, np.zeros(2))
    checks = (Check("max_fid", True, "within"), Check("better", False, "a gain of 0.1 | too little\nby far"))
    page = decision_page("shoes", Decision("refused", "a gain of 0.1", candidate, None, checks))
    assert page.splitlines() == [
        "# shoes version 3: refused", "", "a gain of 0.1.", "",
        "| rule | passed | because |", "| --- | --- | --- |", "| max_fid | yes | within |",
        "| better | **no** | a gain of 0.1 \\| too little by far |",
    ]  # fmt: skip


def test_an_evaluation_is_two_pages_and_numbers(tmp_path: Path) -> None:
    evaluation = Evaluation(tmp_path / "evaluation")
    evaluation.path.mkdir()
    evaluation.report.write_text("<!doctype html>the report")
    evaluation.samples.write_bytes(b"\x89PNG")
    report, samples = tmp_path / "ui" / "report", tmp_path / "ui" / "samples"
    scores = {"score": "fid_x", "fid_x": 4.5, "count": 10, "protocol": {}}
    assert show_evaluation(evaluation, scores, report, samples) == numbers(scores) == {"fid_x": 4.5}
    assert report.read_text() == "<!doctype html>the report"
    page = samples.read_text()
    assert base64.b64decode(page.split("base64,")[1].split('"')[0]) == b"\x89PNG"
    assert "http" not in page


def test_a_table_without_rows_is_nothing() -> None:
    assert table(("a", "b"), []) == []

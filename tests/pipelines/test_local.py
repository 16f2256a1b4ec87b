"""`ganflow pipeline run` when a task fails; tests/test_flow.py has the whole run."""

from pathlib import Path

import pytest
import yaml
from conftest import TINY, shell


@pytest.mark.slow
def test_failed_task_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(TINY))
    said = shell(tmp_path, "ganflow", "pipeline", "run", "nowhere", code=1)
    assert said.splitlines()[-1] == "ganflow: the task prepare failed; its last lines above say why"
    assert "ganflow.errors.DataError" in said

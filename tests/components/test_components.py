"""The components are thin, described, and compiled as committed."""

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import components
from components import OTHERS, STEPS
from pipelines.compile import committed

FOLDER = Path(components.__file__).parent
ALL = (*STEPS, *OTHERS)
CALLED = {
    "evaluate": "evaluate_shown", "promote": "promote_shown", "shard": "prepare", "train": "train_in_pod",
}  # fmt: skip
"""Where what is called is named otherwise than the component."""


def test_compiled_files_are_up_to_date() -> None:
    stale = [str(path) for path, text in committed().items() if path.read_text() != text]
    assert not stale, "run `python -m pipelines.compile`"


def test_every_folder_is_a_step() -> None:
    assert {path.parent.name for path in FOLDER.glob("*/component.py")} == set(ALL)


@pytest.mark.parametrize("step", ALL)
def test_body_is_one_import_from_ganflow_and_one_call(step: str) -> None:
    module = ast.parse((FOLDER / step / "component.py").read_text())
    [function] = [node for node in module.body if isinstance(node, ast.FunctionDef)]
    docstring, imported, called = function.body
    assert function.name == step
    assert isinstance(docstring, ast.Expr)
    assert isinstance(docstring.value, ast.Constant)
    assert isinstance(imported, ast.ImportFrom)
    assert imported.module == "ganflow"
    assert isinstance(called, ast.Expr)
    assert isinstance(called.value, ast.Call)
    assert ast.unparse(called.value.func) == f"steps.{CALLED.get(step, step)}"
    assert sum(isinstance(node, ast.Call) for node in ast.walk(called)) == 1
    assert called.end_lineno is not None
    assert called.end_lineno - imported.lineno < 10


@pytest.mark.parametrize("step", ALL)
def test_component_and_all_that_crosses_it_are_described(step: str) -> None:
    spec = getattr(import_module(f"components.{step}.component"), step).component_spec
    crossing: dict[str, Any] = {**spec.inputs, **spec.outputs}
    assert spec.description
    assert [name for name, item in crossing.items() if not item.description and item.type != "TaskFinalStatus"] == []


@pytest.mark.parametrize("step", ALL)
def test_component_installs_nothing_where_it_runs(step: str) -> None:
    assert "pip install" not in (FOLDER / step / "component.yaml").read_text()

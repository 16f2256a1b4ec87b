"""Run the whole training pipeline on this machine, each task a process of its own (kfp.local)."""

import contextlib
import re
import sys
import warnings
from pathlib import Path
from typing import Any

from kfp import local

from components import STEPS
from ganflow.errors import GanflowError
from pipelines.training import build

COLOUR = re.compile(r"\x1b\[\d+m")


def run(raw: Path, sections: dict[str, str], root: Path) -> dict[str, Path]:
    """Run the pipeline on `raw` with these sections of the parameters; returns where each step's output lies.

    What the tasks print goes to standard error. Raises GanflowError when a task fails.
    """
    pipeline = build()
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(root))
    with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
        warnings.filterwarnings("ignore", "You may be attemping to run a task", RuntimeWarning)  # the name of the image
        try:
            pipeline(raw=str(raw), **sections)
        except RuntimeError as error:
            task = COLOUR.sub("", str(error)).rpartition("Inner task failed: ")[2].strip("'.")
            raise GanflowError(f"the task {task} failed; its last lines above say why") from error
    return _outputs(pipeline, max(root.glob(f"{pipeline.name}-*")))


def _outputs(pipeline: Any, folder: Path) -> dict[str, Path]:
    """Each step's one output, as kfp.local names it: folder/step/output."""
    components = pipeline.pipeline_spec.components
    names = {step: next(iter(components[f"comp-{step}"].output_definitions.artifacts)) for step in STEPS}
    return {step: folder / step / name for step, name in names.items()}

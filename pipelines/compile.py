"""Compile the pipeline and the components to KFP's intermediate representation: the same bytes every time.

`python -m pipelines.compile` writes anew every compiled file that is committed; tests fail when one is out of date.
"""

from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kfp.compiler import Compiler

from components import IMAGE, STEPS
from ganflow.artifacts import write_text
from pipelines.training import build

ROOT = Path(__file__).parent.parent


def pipeline_yaml(image: str = IMAGE) -> str:
    """The training pipeline, with every step in `image`."""
    return _compiled(build(image))


def component_yaml(step: str) -> str:
    """One component."""
    return _compiled(getattr(import_module(f"components.{step}.component"), step))


def committed() -> dict[Path, str]:
    """Every compiled file that is committed, and what it should hold."""
    files = {ROOT / "components" / step / "component.yaml": component_yaml(step) for step in STEPS}
    return files | {ROOT / "tests" / "golden" / "training.yaml": pipeline_yaml()}


def _compiled(component: Any) -> str:
    with TemporaryDirectory() as folder:
        package = Path(folder) / "package.yaml"  # the compiler writes only to a path
        Compiler().compile(component, str(package))
        return package.read_text()


if __name__ == "__main__":
    for path, text in committed().items():
        write_text(path, text)
        print(path.relative_to(ROOT))

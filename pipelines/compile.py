"""Compile the pipelines and the components to KFP's intermediate representation: the same bytes every time.

`python -m pipelines.compile` writes anew every compiled file that is committed; tests fail when one is out of date.
"""

from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kfp.compiler import Compiler

from components import IMAGE, OTHERS, SMALL_IMAGE, STEPS
from ganflow.artifacts import write_text
from ganflow.config import Params, Sweep
from ganflow.errors import ConfigError
from ganflow.resources import Resources
from pipelines import sweep, training
from pipelines.resources import target

ROOT = Path(__file__).parent.parent


def pipeline_yaml(
    profile: str, resources: Resources | None = None, image: str = IMAGE, small_image: str = SMALL_IMAGE
) -> str:
    """The training pipeline for a profile."""
    return compiled(training.build(target(resources or Resources(), profile, image, small_image)))


def sweep_yaml(
    profile: str,
    parallelism: int,
    resources: Resources | None = None,
    image: str = IMAGE,
    small_image: str = SMALL_IMAGE,
) -> str:
    """The sweep for a profile."""
    return compiled(sweep.build(parallelism, target(resources or Resources(), profile, image, small_image)))


def yaml_for(name: str, params: Params, profile: str, image: str, small_image: str) -> str:
    """The pipeline `training` or `sweep`, for a profile of these parameters."""
    if name == "sweep":
        return sweep_yaml(profile, params.sweep.parallelism, params.resources, image, small_image)
    return pipeline_yaml(profile, params.resources, image, small_image)


def component_yaml(step: str) -> str:
    """One component."""
    return compiled(getattr(import_module(f"components.{step}.component"), step))


def committed() -> dict[Path, str]:
    """Every compiled file that is committed, and what it should hold."""
    golden = ROOT / "tests" / "golden"
    files = {ROOT / "components" / step / "component.yaml": component_yaml(step) for step in (*STEPS, *OTHERS)}
    files[golden / "sweep-gpu.yaml"] = sweep_yaml("gpu", Sweep().parallelism)
    return files | {golden / f"training-{name}.yaml": pipeline_yaml(name) for name in Resources().profiles}


def require_digests(*images: str) -> None:
    """Raise ConfigError for an image that is named by a tag: another may stand there tomorrow."""
    for image in images:
        if "@sha256:" not in image:
            raise ConfigError(
                f"the image {image} is named by a tag, which can move; name it by its digest "
                "(`docker inspect --format '{{index .RepoDigests 0}}' IMAGE`), or give --allow-tags"
            )


def compiled(component: Any) -> str:
    """A component or pipeline as YAML text."""
    with TemporaryDirectory() as folder:
        package = Path(folder) / "package.yaml"  # the compiler writes only to a path
        Compiler().compile(component, str(package))
        return package.read_text()


if __name__ == "__main__":
    for path, text in committed().items():
        write_text(path, text)
        print(path.relative_to(ROOT))

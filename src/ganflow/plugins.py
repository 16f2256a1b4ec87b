"""What MLflow learns by entry points: DVC's lineage in every run of this environment, and DVC data as a source.

`mlflow.run_context_provider`: each new run gets the git revision and the md5 of every DVC-tracked input as tags.
`mlflow.dataset_source`: `dvc://md5/<md5>?path=<path>` is data by its content, wherever the remote is.
"""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from mlflow.data.dataset_source import DatasetSource
from mlflow.tracking.context.abstract_context import RunContextProvider

from ganflow.lineage import git

LIMIT = 50
"""Tags of data in a run; a repository with more has them all in its own history."""


class DvcRunContext(RunContextProvider):  # type: ignore[misc]
    """Tags of a run that is started in a DVC repository."""

    def in_context(self) -> bool:
        """Whether the working directory is one."""
        return Path(".dvc").is_dir()

    def tags(self) -> dict[str, str]:
        """`dvc.data.<path>` with the md5 of what each .dvc file tracks, and `dvc.revision`."""
        found = {f"dvc.data.{place}": md5 for path in _pointers() for place, md5 in _tracked(path)}
        revision = git("rev-parse", "HEAD")
        return dict(sorted(found.items())[:LIMIT]) | ({"dvc.revision": revision} if revision else {})


class DvcDatasetSource(DatasetSource):  # type: ignore[misc]
    """Data that DVC keeps, named by its md5."""

    def __init__(self, md5: str, path: str) -> None:
        self.md5, self.path = md5, path

    @property
    def uri(self) -> str:
        """dvc://md5/<md5>?path=<path>."""
        return f"dvc://md5/{self.md5}?path={self.path}"

    @staticmethod
    def _get_source_type() -> str:
        return "dvc"

    def load(self, **kwargs: Any) -> str:
        """Fetch the data by `dvc pull` into the working directory; returns its path."""
        import subprocess
        import sys

        subprocess.run([sys.executable, "-m", "dvc", "pull", f"{self.path}.dvc"], check=True)
        return self.path

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:
        return isinstance(raw_source, str) and raw_source.startswith("dvc://md5/")

    @classmethod
    def _resolve(cls, raw_source: str) -> "DvcDatasetSource":
        parts = urlsplit(raw_source)
        return cls(parts.path.strip("/"), parse_qs(parts.query).get("path", [""])[0])

    def to_dict(self) -> dict[str, str]:
        """For MLflow's pages."""
        return {"uri": self.uri, "md5": self.md5, "path": self.path}

    @classmethod
    def from_dict(cls, source_dict: dict[str, str]) -> "DvcDatasetSource":
        """The source that `to_dict` described."""
        return cls(source_dict["md5"], source_dict["path"])


def _pointers() -> list[Path]:
    """The .dvc files that git knows: no walk through folders of images."""
    listed = git("ls-files", "*.dvc")
    return [Path(line) for line in listed.splitlines()] if listed else sorted(Path().glob("*.dvc"))


def _tracked(path: Path) -> list[tuple[str, str]]:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []
    outs = content.get("outs", ()) if isinstance(content, dict) else ()
    return [((path.parent / out["path"]).as_posix(), out["md5"]) for out in outs if "md5" in out]

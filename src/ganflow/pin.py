"""A pin: the content address of a versioned set, and where its objects lie. A pod needs no more to fetch it."""

from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from ganflow.artifacts import content_address
from ganflow.errors import ConfigError, DataError
from ganflow.lineage import git

BEGINNING = "{"
"""A raw set that begins so is a pin's text, and no path."""


class Pin(BaseModel):
    """What `ganflow data pin` says of a set; `model_dump_json()` is its text, one line."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    """The set's place in the repository; its last part is the set's name."""
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}(\.dir)?$")]
    """DVC's, of a file, or with .dir of a folder's listing."""
    size: Annotated[int, Field(ge=0)]
    """Bytes of all files."""
    files: Annotated[int, Field(ge=0)]
    remote: str
    """URL of the DVC remote: s3://bucket/prefix, or a folder."""
    endpoint: str | None = None
    """URL of an S3 server that is not Amazon's; null leaves it to AWS_ENDPOINT_URL."""
    revision: str | None = None
    """The last git revision that changed the .dvc file, so that other commits leave the pin alone; null when none has
    it as it is."""

    @field_validator("path")
    @classmethod
    def _inside(cls, path: str) -> str:
        if not PurePosixPath(path).name or PurePosixPath(path).is_absolute() or ".." in path.split("/"):
            raise ValueError("must be relative, without ..")
        return path


def read_pin(text: str) -> Pin:
    """The pin with this text. Raises DataError when it is none."""
    try:
        return Pin.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the text"
        raise DataError(
            f"this is no pin: {where}: {first['msg']} (got {first['input']!r:.80}); make one with `ganflow data pin`"
        ) from error


def given_pin(given: str) -> str | None:
    """A pin's text, given as such or as the file that `ganflow data pin` wrote; None for any other path.

    Raises DataError for a text that is no pin.
    """
    path = Path(given)
    if not given.startswith(BEGINNING):
        if path.suffix != ".json" or not path.is_file():
            return None
        given = path.read_text()
    return read_pin(given).model_dump_json()


def require_shared(pin: Pin) -> None:
    """Raise ConfigError for a pin at a folder: the pods of a cluster do not see this machine's disk."""
    if urlsplit(pin.remote).scheme in ("", "file"):
        raise ConfigError(
            f"{pin.path} is pinned at {pin.remote}, a folder of one machine that no pod sees; run `dvc pull "
            f"{pin.path}.dvc`, `dvc remote add --local --default NAME s3://BUCKET/PREFIX` and `dvc push "
            f"{pin.path}.dvc`, then pin it again"
        )


def make_pin(target: Path) -> Pin:
    """Pin a set that `dvc add` versions; `target` is its path, or its .dvc file.

    Raises DataError when DVC does not track it, when its files are not those of the .dvc file, and when no remote is
    set up that a pod could fetch from.
    """
    pointer = _pointer(target)
    if not pointer.is_file():
        raise DataError(f"{pointer} is not there: DVC does not track {target}; run `dvc add {target}` first")
    committed = git("status", "--porcelain", "--", pointer.name, folder=pointer.parent) == ""
    pin = _pin(pointer, pointer.read_text(), _changed(pointer, "HEAD") if committed else None)
    data = pointer.parent / Path(pin.path).name
    if data.exists() and content_address(data) != pin.md5:
        raise DataError(
            f"{data} is not what {pointer.name} says; run `dvc add {data}` to version it as it is, or `dvc checkout`"
        )
    return pin


def pin_at(revision: str, target: Path) -> Pin:
    """The pin of a set as a git revision has it, at the remote that is set up now.

    Raises DataError when the revision does not track it.
    """
    pointer = _pointer(target)
    found = git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", folder=pointer.parent)
    if found is None:
        raise DataError(f"git knows no revision {revision}; fetch it, or name another")
    text = git("show", f"{found}:./{pointer.name}", folder=pointer.parent)
    if text is None:
        raise DataError(f"the revision {revision} has no {pointer}; name a set that it tracks")
    return _pin(pointer, text, _changed(pointer, found))


def only_set() -> Path:
    """The .dvc file of the repository in the working directory. Raises ConfigError unless there is one, and no more."""
    found = (git("ls-files", "*.dvc") or "").split("\n")
    if len(found) > 1 or not found[0]:
        raise ConfigError(f"git tracks {', '.join(filter(None, found)) or 'no .dvc file'}; name the set, by its PATH")
    return Path(found[0])


def _changed(pointer: Path, revision: str) -> str | None:
    """The last revision, up to this one, that changed the .dvc file."""
    return git("log", "-1", "--format=%H", revision, "--", pointer.name, folder=pointer.parent) or None


def _pointer(target: Path) -> Path:
    return target if target.suffix == ".dvc" else target.with_name(f"{target.name}.dvc")


def _pin(pointer: Path, text: str, revision: str | None) -> Pin:
    out = _out(pointer, text)
    root, settings = _remote(pointer, out.get("remote"))
    place = (pointer.parent / out["path"]).resolve().relative_to(root)
    return Pin(
        path=place.as_posix(),
        md5=out["md5"],
        size=out["size"],
        files=out.get("nfiles", 1),
        remote=settings["url"],
        endpoint=settings.get("endpointurl"),
        revision=revision,
    )


def _out(pointer: Path, text: str) -> dict[str, Any]:
    try:
        (out,) = yaml.safe_load(text)["outs"]
        if out["hash"] != "md5" or not isinstance(out["path"], str):
            raise ValueError
    except (yaml.YAMLError, LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{pointer} is not the .dvc file of one set, as DVC 3 writes it; run `dvc add` on the set again"
        ) from error
    return dict(out)


def _remote(pointer: Path, name: str | None) -> tuple[Path, dict[str, Any]]:
    """The repository's root, and the settings of the remote, the default one without a name."""
    from dvc.exceptions import DvcException
    from dvc.fs import get_fs_config
    from dvc.repo import Repo

    try:
        with Repo(str(pointer.parent)) as repo:
            name = name or repo.config["core"].get("remote")
            if name is None:
                raise DataError(f"DVC has no default remote for {pointer}; run `dvc remote add --default NAME URL`")
            settings = get_fs_config(repo.config, name=name)
            root = Path(repo.root_dir).resolve()
    except DvcException as error:
        raise DataError(f"DVC cannot say where {pointer} has its data ({error}); mend .dvc/config") from error
    if settings.get("version_aware") or settings.get("worktree"):
        raise DataError(f"the DVC remote {name} keeps no objects by content; make one without version_aware, worktree")
    return root, settings

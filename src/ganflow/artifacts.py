"""What crosses from step to step: the one place that knows the files' names, and how they are written whole.

Every file is written under a temporary name, synced and renamed, so nobody reads half of one; a folder is filled
beside its place and swapped in. A folder's *card* is the JSON file that is written last, and says who made it and what
the rest is.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ganflow.errors import ArtifactError, DataError

CHUNK = 1 << 20


@dataclass(frozen=True)
class Folder:
    """A step's output folder. `CARD` names the file whose presence says that the step ended."""

    path: Path
    CARD: ClassVar[str]
    MAKER: ClassVar[str]
    """The command that writes it; every card says it."""

    @property
    def card(self) -> Path:
        """The JSON file that is written last."""
        return self.path / self.CARD

    def read_card(self) -> dict[str, Any]:
        """The card's content. Raises ArtifactError when the folder is not a finished output of its step."""
        if not self.card.is_file():
            raise ArtifactError(
                f"{self.path} has no {self.CARD}: it is not a finished output; run `{self.MAKER}` first"
            )
        card = read_json(self.card)
        if card.get("made_by") != self.MAKER:
            raise ArtifactError(f"{self.card} was not written by `{self.MAKER}`; give a folder that was")
        return card

    def write_card(self, values: dict[str, Any]) -> dict[str, Any]:
        """Write the card, last of all; returns it."""
        card = {"made_by": self.MAKER, **values}
        write_json(self.card, card)
        return card

    def require_ours(self) -> None:
        """Raise ArtifactError when the path holds something that this step did not write: it is never touched."""
        if self.path.exists() and not (self.path.is_dir() and (not any(self.path.iterdir()) or self._is_ours())):
            raise ArtifactError(
                f"{self.path} is there and was not written by `{self.MAKER}`; name another output, or remove it"
            )

    def _is_ours(self) -> bool:
        try:
            self.read_card()
        except ArtifactError:
            return False
        return True


class Prepared(Folder):
    """`prepare` writes it: uint8 images, N,C,H,W, train split first, then the held-out split."""

    CARD = "dataset.json"
    MAKER = "ganflow prepare"

    def images(self, shard: int, shards: int) -> Path:
        """npy, uint8, (n, C, H, W), one of so many files; memory-map it."""
        return self.path / ("images.npy" if shards == 1 else f"images-{shard:05}.npy")

    @property
    def labels(self) -> Path:
        """npy, int64, (N,); there only if the raw set has classes."""
        return self.path / "labels.npy"

    @property
    def findings(self) -> Path:
        """JSON: what the checks of the data found."""
        return self.path / "findings.json"

    @property
    def montage(self) -> Path:
        """PNG grid of images from all over the training split."""
        return self.path / "montage.png"

    @property
    def page(self) -> Path:
        """The data card: one self-contained HTML page."""
        return self.path / "card.html"


class Piece(Prepared):
    """`prepare --shard` writes it: some rows of a prepared set, for `merge`."""

    CARD = "piece.json"
    MAKER = "ganflow prepare --shard"


class Reference(Folder):
    """`reference` writes it: the extractor, and the real held-out images as the extractor sees them."""

    CARD = "protocol.json"
    MAKER = "ganflow reference"

    @property
    def extractor(self) -> Path:
        """Weights of the feature extractor, safetensors."""
        return self.path / "extractor.safetensors"

    @property
    def stats(self) -> Path:
        """npz: the fields of metrics.RealStatistics, and small pictures of the training images in its bank."""
        return self.path / "stats.npz"


class Model(Folder):
    """`train` writes it."""

    CARD = "model.json"
    MAKER = "ganflow train"

    @property
    def generator(self) -> Path:
        """Weights of the averaged generator, safetensors."""
        return self.path / "generator.safetensors"

    @property
    def history(self) -> Path:
        """One JSON object a line: `images` seen and the losses then."""
        return self.path / "history.jsonl"

    @property
    def curves(self) -> Path:
        """The history as CSV, for plots."""
        return self.path / "history.csv"

    @property
    def samples(self) -> Path:
        """Folder of PNG grids, each named by the images seen."""
        return self.path / "samples"

    @property
    def checkpoints(self) -> Path:
        """Folder of everything that is no output: training states, and the files below."""
        return self.path / "checkpoints"

    @property
    def mark(self) -> Path:
        """JSON that says that the checkpoints are ours."""
        return self.checkpoints / "made_by.json"

    @property
    def history_so_far(self) -> Path:
        """The history of a training that goes on; DVC removes outputs before it runs a step, and this stays."""
        return self.checkpoints / "history.jsonl"

    @property
    def samples_so_far(self) -> Path:
        """The samples of a training that goes on."""
        return self.checkpoints / "samples"

    @property
    def mlflow_run(self) -> Path:
        """JSON with the id of the MLflow run that the checkpoints belong to."""
        return self.checkpoints / "mlflow_run.json"

    @property
    def provenance(self) -> Path:
        """JSON: git revision, machine and libraries of the training. No output, since outputs must not depend on it."""
        return self.checkpoints / "provenance.json"

    def _is_ours(self) -> bool:
        return self.mark.exists() or super()._is_ours()


class Evaluation(Folder):
    """`evaluate` writes it."""

    CARD = "scores.json"
    MAKER = "ganflow evaluate"

    @property
    def influence(self) -> Path:
        """npy, float64, (N,): each generated image's influence on the FID."""
        return self.path / "influence.npy"

    @property
    def samples(self) -> Path:
        """PNG grid of the first evaluated images."""
        return self.path / "samples.png"

    @property
    def interpolation(self) -> Path:
        """PNG: rows of images between two samples each."""
        return self.path / "interpolation.png"

    @property
    def neighbours(self) -> Path:
        """PNG: samples, each with its nearest training image to the right."""
        return self.path / "neighbours.png"

    @property
    def classes(self) -> Path:
        """PNG: a row of samples a class; of a conditional generator alone."""
        return self.path / "classes.png"

    @property
    def report(self) -> Path:
        """One self-contained HTML page."""
        return self.path / "report.html"


class Champion(Folder):
    """The pipeline's task `champion` writes it; the card's `version` is None where nothing had to be measured."""

    CARD = "champion.json"
    MAKER = "the task champion"

    @property
    def evaluation(self) -> Evaluation:
        """Of that version, as the candidate was measured."""
        return Evaluation(self.path / "evaluation")


F = TypeVar("F", bound=Folder)


@contextmanager
def new_folder(kind: type[F], out: Path) -> Iterator[F]:
    """Yield an empty folder that takes the place of `out` when the block ends well, and is removed when it does not.

    Raises ArtifactError when `out` holds something that this kind of step did not write: it is never deleted.
    """
    partial = _beside(kind, out)
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield kind(partial)
        _swap_in(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def resumed_folder(kind: type[F], out: Path, identity: str) -> Iterator[F]:
    """As `new_folder`, but what an interrupted attempt of the same identity left is found in the folder again.

    Hidden files in it are removed at the end. DataError leaves nothing: the raw data is to blame, and will change.
    Raises ArtifactError also when another process is at it.
    """
    partial = _beside(kind, out)
    partial.mkdir(parents=True, exist_ok=True)
    with (partial / ".identity").open("a+") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ArtifactError(f"another process is writing {out}; wait for it, or name another output") from error
        mark.seek(0)
        if mark.read() != identity:
            for path in partial.iterdir():
                if path.name != ".identity":
                    path.unlink()
            mark.truncate(0)
            mark.write(identity)
            mark.flush()
        try:
            yield kind(partial)
        except DataError:
            shutil.rmtree(partial)
            raise
        for path in partial.glob(".*"):
            path.unlink()
        _swap_in(partial, out)


def _beside(kind: type[F], out: Path) -> Path:
    """Where the folder is filled. Raises ArtifactError when `out` is not this kind's to replace."""
    kind(out).require_ours()
    if Path.cwd().is_relative_to(out.absolute()):
        raise ArtifactError(f"{out} is the working directory, or holds it; name a folder inside")
    return out.with_name(f".{out.name}.partial")


def _swap_in(partial: Path, out: Path) -> None:
    old = out.with_name(f".{out.name}.old")
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; sync and rename it when the block ends well, else remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.chmod(0o644)  # some writers make private files; the next step may run as another user
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text`, whole or not at all."""
    with atomic(path) as partial:
        partial.write_text(text)


def write_json(path: Path, value: Any) -> None:
    """Write sorted, indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises ArtifactError when the file is missing or damaged."""
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"cannot read {path} ({error.strerror}); run the step that writes it") from error
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged ({error}); remove it and run the step that writes it") from error
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} is damaged (not a JSON object); remove it and run the step that writes it")
    return value


def fingerprint(value: Any) -> str:
    """sha256 of sorted JSON: equal for equal values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()


def file_hash(path: Path, algorithm: str = "sha256") -> str:
    """Hex digest of a file's bytes, read in pieces."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def content_address(path: Path) -> str:
    """md5 of a file, or of a folder, as DVC computes it: what a .dvc file records for the same bytes.

    A folder's is the md5 of DVC's listing of it, with `.dir` behind it.
    """
    if path.is_file():
        return file_hash(path, "md5")
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    return listing_address((name, file_hash(path / name, "md5")) for name in names)


def listing_address(files: Iterable[tuple[str, str]]) -> str:
    """DVC's address of a folder with these files: name and md5, ascending by name."""
    digest, between = hashlib.md5(b"[", usedforsecurity=False), ""
    for name, md5 in files:
        digest.update(f"{between}{json.dumps({'md5': md5, 'relpath': name})}".encode())
        between = ", "
    digest.update(b"]")
    return digest.hexdigest() + ".dir"


def check_hash(path: Path, expected: str, maker: str, algorithm: str = "sha256") -> None:
    """Raise ArtifactError unless the file's hash is `expected`; `maker` is the command that writes it again."""
    if not path.is_file():
        raise ArtifactError(f"{path} is missing; run `{maker}` again, or `dvc checkout`")
    found = file_hash(path, algorithm)
    if found != expected:
        raise ArtifactError(
            f"{path} is damaged: its {algorithm} is {found[:12]}…, not {expected[:12]}…; "
            f"run `{maker}` again, or `dvc checkout`"
        )

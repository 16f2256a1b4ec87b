"""Parquet files with images' bytes in them, as Hugging Face's datasets are stored: `image.bytes`, and maybe `label`."""

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from ganflow.data.raw import Chunk, Indices, RawSet, Rejected, Sizes, gather, reading
from ganflow.data.samples import Shard, join
from ganflow.errors import DataError

SUFFIXES = (".parquet",)
IMAGES, LABELS = ("image.bytes", "img.bytes"), ("label", "labels", "fine_label")
ROWS = 64
"""Read at a time."""


def open_parquet(folder: Path, paths: Sequence[Path], names: list[str] | None) -> RawSet:
    """The set in these files, in the order of their names. Raises DataError for damage and for other columns.

    Names of the classes that Hugging Face has written into the files are taken where `names` is None.
    """
    return join(folder, [_open(path) for path in sorted(paths)], names or _class_names(sorted(paths)[0]))


def _open(path: Path) -> Shard:
    from pyarrow import types

    with reading(path, "Parquet"), _file(path) as file:
        columns = {field.path: field.physical_type for field in map(file.schema.column, range(len(file.schema)))}
        images = next((name for name in IMAGES if columns.get(name) == "BYTE_ARRAY"), None)
        if images is None:
            raise DataError(
                f"{path} has the columns {', '.join(columns) or '(none)'}; it needs image.bytes, encoded images"
            )
        label = next((name for name in LABELS if name in columns), None)
        if label and not types.is_integer(kind := file.schema_arrow.field(label).type) and not types.is_string(kind):
            raise DataError(f"{path} has labels of the type {kind} in {label}; it needs integers or text")
        rows = file.metadata.num_rows
        labels: list[Any] = [None] * rows
        if label:
            batches = file.iter_batches(1 << 16, columns=[label], use_threads=False)
            labels = [value for batch in batches for value in batch.column(0).to_pylist()]
    return Shard(
        path,
        lambda place: f"{path.name}[{place}]",
        labels,
        lambda chosen, index, sizes: _chunks(path, images, chosen, index, sizes),
    )


def _chunks(path: Path, column: str, chosen: Indices, index: Indices, sizes: Sizes) -> Iterator[Chunk]:
    """Read from front to back: a row group is one compressed whole."""
    wanted = dict(zip(chosen.tolist(), index.tolist(), strict=True))
    return gather(_images(path, column, wanted), sizes)


def _images(path: Path, column: str, wanted: dict[int, int]) -> Iterator[tuple[int, bytes | Rejected]]:
    with reading(path, "Parquet"), _file(path) as file:
        place = count()
        for batch in file.iter_batches(ROWS, columns=[column], use_threads=False):
            for value in batch.column(0).field("bytes"):
                if (row := next(place)) in wanted:
                    data = value.as_py()
                    yield wanted[row], Rejected("has no bytes") if data is None else data


def _class_names(path: Path) -> list[str] | None:
    """What Hugging Face notes of the column `label`."""
    import json

    with reading(path, "Parquet"), _file(path) as file:
        noted = json.loads((file.schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
        for label in LABELS:
            found = noted.get("info", {}).get("features", {}).get(label, {}).get("names")
            if found:
                return [str(name) for name in found]
    return None


def _file(path: Path) -> Any:
    from pyarrow.parquet import ParquetFile

    return ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)

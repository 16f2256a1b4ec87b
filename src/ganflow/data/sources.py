"""Which kind of raw set a path holds."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ganflow.data import files, idx, numpy_files, parquet, tars, webdataset, zips
from ganflow.data.raw import RawSet, ignored, reading
from ganflow.errors import DataError

ARRAYS: dict[tuple[str, ...], Callable[[Path, list[str] | None], RawSet]] = {
    (".npy",): numpy_files.open_npy,
    (".npz",): numpy_files.open_npz,
    idx.SUFFIXES: idx.open_file,
}
ARCHIVES: dict[tuple[str, ...], Callable[[Path], RawSet]] = {
    zips.SUFFIXES: zips.open_zip,
    tars.SUFFIXES: tars.open_tar,
}

SHARDS: dict[tuple[str, ...], Callable[[Path, Sequence[Path], list[str] | None], RawSet]] = {
    tars.SUFFIXES: webdataset.open_shards,
    parquet.SUFFIXES: parquet.open_parquet,
}
"""A folder of several files of one of these kinds is one set."""


def open_raw(path: Path) -> RawSet:
    """List the raw set at `path`, a file or a folder, without decoding an image.

    Raises DataError when there is nothing, or nothing that is an image.
    """
    if path.is_file():
        found = _open_file(path, None)
    elif path.is_dir():
        with reading(path, "a folder"):
            found = _open_folder(path)
    else:
        raise DataError(f"{path} does not exist; name the raw images, or run `dvc checkout` to get them")
    if not found.count:
        why = f" (the first of {len(found.rejected)} other files, {found.rejected[0].file}," if found.rejected else ""
        why += f" {found.rejected[0].reason})" if found.rejected else ""
        raise DataError(f"{path} holds no image{why}; give it images: {_known()}")
    return found


def _open_folder(folder: Path) -> RawSet:
    """A folder of idx files, of one archive or array among texts, of archives or Parquet files, or of images."""
    if idx.is_idx_folder(folder):
        return idx.open_folder(folder, _class_names(folder))
    visible = [path for path in folder.iterdir() if not ignored(path.name)]
    if len(visible) == 1 and visible[0].is_file() and visible[0].name.lower().endswith(_suffixes()):
        return _open_file(visible[0], _class_names(folder))
    for suffixes, open_all in SHARDS.items():
        if visible and all(path.name.lower().endswith(suffixes) for path in visible):
            return open_all(folder, visible, _class_names(folder))
    return files.open_folder(folder)


def _open_file(path: Path, names: list[str] | None) -> RawSet:
    if path.name.lower().endswith(tars.SUFFIXES) and webdataset.is_webdataset(path):
        return webdataset.open_shards(path, [path], names)
    if path.name.lower().endswith(parquet.SUFFIXES):
        return parquet.open_parquet(path, [path], names)
    for suffixes, open_array in ARRAYS.items():
        if path.name.lower().endswith(suffixes):
            return open_array(path, names)
    for suffixes, open_archive in ARCHIVES.items():
        if path.name.lower().endswith(suffixes):
            return open_archive(path)
    raise DataError(f"{path} is no raw set; give {_known()}")


def _class_names(folder: Path) -> list[str] | None:
    """The lines of classes.txt, None without one."""
    path = folder / "classes.txt"
    if not path.is_file():
        return None
    with reading(path, "text"):
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path} names the class {twice} twice; give every class its own name")
    return names


def _suffixes() -> tuple[str, ...]:
    return tuple(suffix for suffixes in (*ARRAYS, *ARCHIVES, parquet.SUFFIXES) for suffix in suffixes)


def _known() -> str:
    return f"a folder of .png, .jpg or .webp files, or a file that ends in {', '.join(_suffixes())}"

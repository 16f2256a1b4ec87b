"""Raw sets saved by numpy: .npy and .npz, without pickles."""

import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from numpy.lib import format as npy

from ganflow.data.arrays import Array, Stream, raw_set
from ganflow.data.raw import RawSet, Rejected, reading
from ganflow.data.zips import check_method
from ganflow.errors import DataError


def open_npy(path: Path, names: list[str] | None) -> RawSet:
    """The set in a .npy file of images. Raises DataError for damage, pickled objects, or another dtype or shape."""
    with reading(path, "npy"), path.open("rb") as stream:
        return raw_set([_array(path, path.name, stream, lambda: path.open("rb"), plain=True)], [], names)


def open_npz(path: Path, names: list[str] | None) -> RawSet:
    """The set in a .npz file: images and labels; x_train, y_train, x_test and y_test; or one array of any name.

    Raises DataError for damage, pickled objects, unknown keys, and another dtype or shape.
    """
    with reading(path, "npz"), zipfile.ZipFile(path) as archive:
        keys = {name.removesuffix(".npy"): name for name in archive.namelist()}
        images, labels = _roles(path, set(keys))
        arrays = {key: _member(path, archive, keys[key]) for key in images + labels}
    own_split = len(images) == 2
    return raw_set([arrays[key] for key in images], [arrays[key] for key in labels], names, own_split)


def _roles(path: Path, keys: set[str]) -> tuple[list[str], list[str]]:
    """Which keys are images, and which labels."""
    if keys in ({"images"}, {"images", "labels"}):
        return ["images"], sorted(keys - {"images"})
    if keys in ({"x_train", "x_test"}, {"x_train", "y_train", "x_test", "y_test"}):
        return ["x_train", "x_test"], ["y_train", "y_test"] if "y_train" in keys else []
    if len(keys) == 1:
        return list(keys), []
    raise DataError(
        f"{path} has the arrays {', '.join(sorted(keys)) or '(none)'}; save images and labels, "
        "or x_train, y_train, x_test and y_test, or one array"
    )


def _member(path: Path, archive: zipfile.ZipFile, name: str) -> Array:
    try:
        check_method(archive.getinfo(name))
    except Rejected as reason:
        raise DataError(f"{name} in {path} {reason}; save it with numpy.savez_compressed") from reason
    with archive.open(name) as stream:
        return _array(path, name.removesuffix(".npy"), stream, partial(_open_member, path, name), False)


@contextmanager
def _open_member(path: Path, name: str) -> Iterator[Stream]:
    with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
        yield stream


def _array(
    path: Path, name: str, stream: Stream, opener: Callable[[], AbstractContextManager[Stream]], plain: bool
) -> Array:
    """The array whose header `stream` is at. Only format 1.0, the one of plain arrays, bounds its header's length."""
    version = npy.read_magic(stream)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers written by Python 2
        shape, fortran_order, dtype = npy.read_array_header_1_0(stream)
    if version != (1, 0) or fortran_order:
        order = "in Fortran order" if fortran_order else f"in npy format {version[0]}.{version[1]}"
        raise DataError(f"{name} in {path} is {order}; save numpy.ascontiguousarray of it")
    return Array(path, name, shape, dtype, stream.tell(), opener, plain)

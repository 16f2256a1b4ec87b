"""Image files in a zip archive, read without being extracted."""

import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from ganflow.data.files import Listing, arrange, check_file, unsafe
from ganflow.data.raw import RawSet, Rejected, Rejection, ignored, reading

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
SUFFIXES = (".zip",)


def open_zip(path: Path) -> RawSet:
    """The set in a zip archive of PNG, JPEG and WebP files. Raises DataError when the archive is damaged."""
    members, rejected = [], []
    with reading(path, "zip"), zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if member.is_dir():
                continue
            problem = unsafe(member.filename)
            if not problem and ignored(member.filename):
                continue
            try:
                check_file(member.filename, problem or _kind(member), member.file_size)
                check_method(member)
                members.append(member)
            except Rejected as reason:
                rejected.append(Rejection(member.filename, str(reason)))
    names = [PurePosixPath(member.filename).as_posix() for member in members]
    return arrange(Listing(names, rejected, lambda numbers: _read(path, members, numbers)))


def check_method(member: zipfile.ZipInfo) -> None:
    """Raise Rejected for an encrypted member, and for methods that zipfile inflates without a bound."""
    if member.flag_bits & 1:
        raise Rejected("is encrypted")
    if member.compress_type not in METHODS:
        raise Rejected(f"is compressed by method {member.compress_type}, not stored or deflated")


def _kind(member: zipfile.ZipInfo) -> str:
    mode = member.external_attr >> 16
    if stat.S_ISLNK(mode):
        return "is a link"
    return "is not a regular file" if stat.S_IFMT(mode) not in (0, stat.S_IFREG) else ""


def _read(path: Path, members: list[zipfile.ZipInfo], numbers: list[int]) -> Iterator[tuple[int, bytes | Rejected]]:
    with reading(path, "zip"), zipfile.ZipFile(path) as archive:
        for number in numbers:
            yield number, _inflate(archive, members[number])


def _inflate(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes | Rejected:
    """The member's bytes, never more than it declares: read() without a size would inflate all there is."""
    try:
        with archive.open(member) as stream:
            return stream.read(member.file_size)
    except Exception:  # at damaged bytes, zipfile raises nearly everything there is
        return Rejected("is broken or cut short")

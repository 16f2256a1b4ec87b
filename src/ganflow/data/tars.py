"""Image files in a tar archive, compressed or not, read from front to back without being extracted."""

import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path, PurePosixPath

from ganflow.data.files import Listing, arrange, check_file, unsafe
from ganflow.data.raw import RawSet, Rejected, Rejection, ignored, reading

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_HEADER = 1 << 20


class Member(tarfile.TarInfo):
    """A header that is not forgiven: tarfile would end at a damaged one as at the archive's end."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "Member":
        """Parse a header block. Raises tarfile.ReadError for a damaged or missing one, or a huge extension of one."""
        try:
            member = super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if len(buf) == tarfile.BLOCKSIZE and not any(buf):
                raise  # the block of zeros that ends an archive
            raise tarfile.ReadError(str(error)) from error
        if member.type not in tarfile.SUPPORTED_TYPES or member.size < 0:
            raise tarfile.ReadError("unknown type")
        if member.type not in tarfile.REGULAR_TYPES and member.size > MAX_HEADER:
            raise tarfile.ReadError("tarfile would read all of this header into memory")
        return member


def open_tar(path: Path) -> RawSet:
    """The set in a tar archive of PNG, JPEG and WebP files. Raises DataError when the archive is damaged."""
    names: list[str] = []
    places: list[int] = []
    rejected: list[Rejection] = []
    for place, (member, _) in enumerate(_members(path)):
        problem = unsafe(member.name)
        if member.isdir() or (not problem and ignored(member.name)):
            continue
        try:
            check_file(member.name, problem or _kind(member), member.size)
            names.append(PurePosixPath(member.name).as_posix())
            places.append(place)
        except Rejected as reason:
            rejected.append(Rejection(member.name, str(reason)))
    return arrange(Listing(names, rejected, lambda numbers: _read(path, places, numbers)))


def _kind(member: tarfile.TarInfo) -> str:
    if member.issym() or member.islnk():
        return "is a link"
    return "" if member.isreg() else "is not a regular file"


def _members(path: Path) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    with reading(path, "tar"), tarfile.open(path, tarinfo=Member) as archive:
        for member in archive:
            yield member, archive


def _read(path: Path, places: list[int], numbers: list[int]) -> Iterator[tuple[int, bytes | Rejected]]:
    wanted = {places[number]: number for number in numbers}
    for place, (member, archive) in enumerate(_members(path)):
        if place in wanted:
            yield wanted.pop(place), _bytes(path, archive, member)
        if not wanted:
            return


def _bytes(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    with reading(path, "tar"), archive.extractfile(member) or BytesIO() as stream:
        return stream.read(member.size)  # was checked against MAX_BYTES

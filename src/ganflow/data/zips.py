"""Image files in a zip archive, read without being extracted."""

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ganflow.data.files import Listing, arrange, check_file, unsafe
from ganflow.data.raw import Chunk, Indices, Item, RawSet, Rejected, Rejection, Sizes, cut, ignored, reading

METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
SUFFIXES = (".zip",)
LOCAL_HEADER = struct.Struct("<4s22xHH")
"""Signature, lengths of the name and of the extra field; the rest is in the directory too."""


@dataclass(frozen=True)
class Members:
    """A chunk of a zip archive."""

    index: Indices
    path: Path
    places: Indices
    """(n, 5): header offset, compressed size, size, method and checksum, as the archive's directory says."""

    def read(self) -> Iterator[Item]:
        """The members' bytes. The directory of a million members is not read again for that."""
        with reading(self.path, "zip"), self.path.open("rb") as file:
            for offset, packed, size, method, checksum in self.places.tolist():
                file.seek(offset)
                try:
                    _, name, extra = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
                    file.seek(name + extra, 1)
                    yield _inflate(file.read(min(packed, size + size // 64 + 64)), size, method, checksum)
                except (struct.error, zlib.error):
                    yield Rejected("is broken or cut short")


def open_zip(path: Path) -> RawSet:
    """The set in a zip archive of PNG, JPEG and WebP files. Raises DataError when the archive is damaged."""
    names, places, rejected = [], [], []
    with reading(path, "zip"), zipfile.ZipFile(path) as archive:
        for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
            if member.is_dir():
                continue
            problem = unsafe(member.filename)
            if not problem and ignored(member.filename):
                continue
            try:
                check_file(member.filename, problem or _kind(member), member.file_size)
                check_method(member)
                names.append(PurePosixPath(member.filename).as_posix())
                places.append(
                    (member.header_offset, member.compress_size, member.file_size, member.compress_type, member.CRC)
                )
            except Rejected as reason:
                rejected.append(Rejection(member.filename, str(reason)))
    table = np.array(places, np.int64).reshape(-1, 5)

    def chunks(numbers: Indices, index: Indices, sizes: Sizes) -> Iterator[Chunk]:
        for part in cut(table[numbers, 2], sizes):
            yield Members(index[part], path, table[numbers[part]])

    return arrange(Listing(names, rejected, chunks))


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


def _inflate(packed: bytes, size: int, method: int, checksum: int) -> Item:
    """The member's bytes, never more than it declares; deflated ones are hardly longer than plain ones."""
    if method == zipfile.ZIP_DEFLATED:
        packed = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size + 1)
    data = packed[:size]
    return data if len(data) == size and zlib.crc32(data) == checksum else Rejected("is broken or cut short")

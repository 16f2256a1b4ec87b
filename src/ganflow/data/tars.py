"""Image files in a tar archive, compressed or not, read without being extracted; and WebDataset's shards of them."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ganflow.data.files import Listing, arrange, check_file, unsafe
from ganflow.data.raw import Chunk, Indices, Item, RawSet, Rejected, Rejection, Sizes, cut, gather, ignored, reading

PLAIN = ".tar"
SUFFIXES = (PLAIN, ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
MAX_HEADER = 1 << 20
TYPES = (*tarfile.SUPPORTED_TYPES, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)


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
        if member.type not in TYPES or member.size < 0:
            raise tarfile.ReadError("unknown type")
        if member.type not in tarfile.REGULAR_TYPES and member.size > MAX_HEADER:
            raise tarfile.ReadError("tarfile would read all of this header into memory")
        return member


@dataclass(frozen=True)
class Members:
    """A chunk of an archive that is not compressed."""

    index: Indices
    path: Path
    offsets: Indices
    """(n,) of the members' bytes."""
    sizes: Indices

    def read(self) -> Iterator[Item]:
        """The members' bytes."""
        with reading(self.path, "tar"), self.path.open("rb") as file:
            for offset, size in zip(self.offsets.tolist(), self.sizes.tolist(), strict=True):
                file.seek(offset)
                yield file.read(size)


def open_tar(path: Path) -> RawSet:
    """The set in a tar archive of PNG, JPEG and WebP files. Raises DataError when the archive is damaged."""
    names: list[str] = []
    places: list[tuple[int, int]] = []
    rejected: list[Rejection] = []
    for member, _ in members(path):
        problem = unsafe(member.name)
        if member.isdir() or (not problem and ignored(member.name)):
            continue
        try:
            check_file(member.name, problem or kind(member), member.size)
            names.append(PurePosixPath(member.name).as_posix())
            places.append((member.offset_data, member.size))
        except Rejected as reason:
            rejected.append(Rejection(member.name, str(reason)))
    table = np.array(places, np.int64).reshape(-1, 2)
    return arrange(Listing(names, rejected, lambda numbers, index, sizes: chunks(path, table[numbers], index, sizes)))


def members(path: Path) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    """The members in the archive's order, and the archive. Raises DataError when it is damaged."""
    with reading(path, "tar"), tarfile.open(path, tarinfo=Member) as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # else tarfile remembers them all
            if member.size < 0:
                raise tarfile.ReadError("an extended header with a negative size")
            yield member, archive


def kind(member: tarfile.TarInfo) -> str:
    """Why a member is no plain file; empty if it is one."""
    if member.issym() or member.islnk():
        return "is a link"
    return "" if member.isreg() and not member.issparse() else "is not a regular file"


def chunks(path: Path, table: Indices, index: Indices, sizes: Sizes) -> Iterator[Chunk]:
    """Members by offset and size (n, 2), ascending, and their indices in the set."""
    if path.name.lower().endswith(PLAIN):
        for part in cut(table[:, 1], sizes):
            yield Members(index[part], path, table[part, 0], table[part, 1])
    else:
        wanted = dict(zip(table[:, 0].tolist(), index.tolist(), strict=True))
        yield from gather(_stream(path, wanted), sizes)


def _stream(path: Path, wanted: dict[int, int]) -> Iterator[tuple[int, bytes | Rejected]]:
    for member, archive in members(path):
        if member.offset_data in wanted:
            yield wanted.pop(member.offset_data), contents(path, archive, member)
        if not wanted:
            return


def contents(path: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The bytes of a member that `check_file` has let pass."""
    with reading(path, "tar"):
        stream = archive.extractfile(member)
        assert stream, "a regular file has one"
        with stream:
            return stream.read(member.size)

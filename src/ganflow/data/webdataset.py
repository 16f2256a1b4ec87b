"""WebDataset: tar archives in which files of one name and several endings are one sample.

Of `000123.jpg`, `000123.cls` and `000123.json`, the first is the image; the class is the number in the second, or the
`label` of the third, a number or a word.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ganflow.data import tars
from ganflow.data.files import check_file, unsafe
from ganflow.data.raw import IMAGE_SUFFIXES, RawSet, Rejected, Rejection
from ganflow.data.samples import Shard, join

LABELS = (".cls", ".json")
MAX_LABEL = 1 << 16
Label = int | str | None


def is_webdataset(path: Path) -> bool:
    """Whether the first sample of a tar archive has a label beside its image."""
    seen: dict[str, set[str]] = {}
    for member, _ in tars.members(path):
        if member.isreg():
            key, ending = _split(member.name)
            seen.setdefault(key, set()).add(ending)
            if len(seen) > 2:
                break
    return any(endings & set(LABELS) and endings & set(IMAGE_SUFFIXES) for endings in seen.values())


def open_shards(folder: Path, paths: Sequence[Path], names: list[str] | None) -> RawSet:
    """The set in these archives, in the order of their names and of their samples. Raises DataError for damage."""
    return join(folder, [_open(path) for path in sorted(paths)], names)


def _open(path: Path) -> Shard:
    images: list[str] = []
    places: list[tuple[int, int]] = []
    labels: dict[str, Label] = {}
    rejected: list[Rejection] = []
    for member, archive in tars.members(path):
        key, ending = _split(member.name)
        if member.isdir():
            continue
        try:
            problem = unsafe(member.name) or tars.kind(member)
            if ending in LABELS and not problem:
                if key not in labels or ending == ".cls":
                    labels[key] = _label(tars.contents(path, archive, member)[:MAX_LABEL], ending)
            elif ending in IMAGE_SUFFIXES or problem:
                check_file(member.name, problem, member.size)
                images.append(member.name)
                places.append((member.offset_data, member.size))
        except Rejected as reason:
            rejected.append(Rejection(f"{path.name}/{member.name}", str(reason)))
    table = np.array(places, np.int64).reshape(-1, 2)
    return Shard(
        path,
        lambda place: f"{path.name}/{images[place]}",
        [labels.get(_split(name)[0]) for name in images],
        lambda chosen, index, sizes: tars.chunks(path, table[chosen], index, sizes),
        rejected,
    )


def _split(name: str) -> tuple[str, str]:
    """The sample's key, up to the first dot of the file's own name, and the last ending."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0], "." + file.lower().rpartition(".")[2]


def _label(data: bytes, ending: str) -> Label:
    """What the file says. Raises Rejected when it says nothing that could be a class."""
    try:
        value = int(data) if ending == ".cls" else json.loads(data).get("label")
    except (ValueError, AttributeError, RecursionError) as error:
        raise Rejected("is no label") from error
    if isinstance(value, bool) or not isinstance(value, int | str | None):
        raise Rejected("is no label")
    if isinstance(value, int) and abs(value) >= 1 << 31:
        raise Rejected("is no label")
    return value

"""Rows of the plan to files of images: chunks go out to the processes, and what comes back is noted in the journal."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np

from ganflow.artifacts import file_hash, listing_address
from ganflow.config import Data
from ganflow.data.files import walk
from ganflow.data.journal import Journal, read_journal
from ganflow.data.plan import Plan
from ganflow.data.pool import Task, workers
from ganflow.data.raw import Chunk, Indices, RawSet
from ganflow.data.work import Decode, Decoded, Finish, Finished, Hash, Hashed
from ganflow.data.writer import Rows

FEW_CHUNKS = 4
"""Fewer are decoded sooner than a second process has begun."""
Result = Decoded | Finished | Hashed
RESULTS: dict[str, type[Result]] = {kind.__name__: kind for kind in (Decoded, Finished, Hashed)}


@dataclass(frozen=True)
class Decoding:
    """Rows of the plan, decoded."""

    reasons: dict[int, str]
    """Why one of these rows is left out."""
    lossy_held_out: int
    """Held-out images that come from JPEG or lossy WebP files."""
    kinds: dict[str, int]
    """How many raw images had which size and mode."""
    files: list[Finished]
    """Of the kept images, in their order."""
    raw_md5: str


class Decoder:
    """Decodes rows `span` of the plan into the folder of `out`; goes on where the folder's journal ends."""

    def __init__(self, raw: Path, found: RawSet, plan: Plan, span: slice, settings: Data, out: Rows) -> None:
        self.raw, self.found, self.settings = raw, found, settings
        images = plan.images[span]
        self.order = np.argsort(images, kind="stable")
        self.wanted = images[self.order]
        self.border = len(plan.train) - span.start
        self.out = out
        self.journal = Journal(out.folder / ".journal", self._sync)
        self.keep = np.ones(len(images), bool)
        self.left = np.bincount(np.arange(len(images)) // self.out.shard_rows)
        """Rows that each file waits for."""
        self.finishing: set[int] = set()
        self.unsynced: set[int] = set()
        self.under_way: dict[int, tuple[Indices, Indices]] = {}
        """Indices and rows of chunks, by number."""
        self.known: dict[int, Decoded] = {}
        """Chunks that an interrupted attempt has done."""
        self.reasons: dict[int, str] = {}
        self.lossy = 0
        self.kinds: Counter[str] = Counter()
        self.files: dict[int, Finished] = {}
        self.hashes: dict[str, str] = {}
        self.md5 = np.zeros((found.count if found.loose else 0, 16), np.uint8)
        """Of the loose files that were read."""

    def run(self, advance: Callable[[int, int], None], processes: int) -> Decoding:
        """Do all that is left. Raises DataError when the set is damaged, GanflowError when a process is killed."""
        chunks = self.found.chunks(self.wanted, self.out.sizes)
        ahead = list(islice(chunks, FEW_CHUNKS))
        self._recall()
        with workers(processes if len(ahead) == FEW_CHUNKS else 1) as pool, self.journal:
            for result in pool.results(chain(self._hashes(), self._decodes(chain(ahead, chunks)))):
                self.journal.add(type(result).__name__, asdict(result))
                self._take(result)
                for task in self._finishes():
                    pool.add(task)
                advance(len(self.keep) - int(self.left.sum()), len(self.keep))
        files = [self.files[shard] for shard in sorted(self.files)]
        return Decoding(self.reasons, self.lossy, dict(self.kinds), files, self._raw_md5())

    def _recall(self) -> None:
        for kind, values in read_journal(self.journal.path):
            result = RESULTS[kind](**values)
            if isinstance(result, Decoded):
                self.known[result.number] = result
            else:
                self._take(result)

    def _hashes(self) -> Iterator[Task]:
        """Of raw files that are more than one image each."""
        if not self.found.loose:
            for name in walk(self.raw) if self.raw.is_dir() else [""]:
                if name not in self.hashes and (self.raw / name).is_file():
                    yield Hash(name, self.raw / name)

    def _decodes(self, chunks: Iterator[Chunk]) -> Iterator[Task]:
        for number, chunk in enumerate(chunks):
            rows = self.order[np.searchsorted(self.wanted, chunk.index)]
            self.under_way[number] = chunk.index, rows
            if number in self.known:
                self._take(self.known.pop(number))
                yield from self._finishes()
            else:
                yield Decode(number, chunk, rows, self.out, self.settings, self.border, self.found.loose)

    def _finishes(self) -> Iterator[Task]:
        """Of files that wait for no row."""
        for shard in set(np.flatnonzero(self.left == 0).tolist()) - self.finishing - set(self.files):
            self.finishing.add(shard)
            keep = self.keep[self.out.span(shard)]
            if keep.any():
                self.journal.flush()  # what a finished file was made of is never done again
                yield Finish(shard, keep, self.out)

    def _take(self, result: Result) -> None:
        if isinstance(result, Finished):
            self.files[result.shard] = result
        elif isinstance(result, Hashed):
            self.hashes[result.name] = result.md5
        else:
            index, rows = self.under_way.pop(result.number)
            self.reasons |= dict(result.rejected)
            self.keep[[row for row, _ in result.rejected]] = False
            self.lossy += result.lossy
            self.kinds.update(result.kinds)
            if result.md5:
                self.md5[index] = np.frombuffer(bytes.fromhex(result.md5), np.uint8).reshape(-1, self.md5.shape[1])
            shards, counts = np.unique(rows // self.out.shard_rows, return_counts=True)
            self.left[shards] -= counts
            self.unsynced |= set(shards.tolist())

    def _sync(self) -> None:
        for shard in self.unsynced:
            self.out.sync(shard)
        self.unsynced.clear()

    def _raw_md5(self) -> str:
        """What DVC calls the raw set."""
        if not self.raw.is_dir():
            return self.hashes[""]
        if not self.found.loose:
            return listing_address(sorted(self.hashes.items()))
        return listing_address(self._loose_hashes())

    def _loose_hashes(self) -> Iterator[tuple[str, str]]:
        """Name and md5 of every file, ascending as the set's images are; those that were not decoded are read now."""
        place = 0
        for name in sorted(walk(self.raw)):
            seen = place < self.found.count and self.found.name(place) == name
            if seen and self.md5[place].any():
                yield name, self.md5[place].tobytes().hex()
            elif (self.raw / name).is_file():
                yield name, file_hash(self.raw / name, "md5")
            place += seen

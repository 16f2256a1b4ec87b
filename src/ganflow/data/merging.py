"""`prepare` on many machines: each decodes some rows into a piece, and the pieces are put together."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganflow.artifacts import Piece, Prepared, check_hash, new_folder, resumed_folder
from ganflow.config import Data, parse
from ganflow.data.journal import stamp
from ganflow.data.plan import make_plan
from ganflow.data.pool import cores, workers
from ganflow.data.preparation import FORMAT, Advance, Decoded, conclude, decode
from ganflow.data.raw import SIZES, Indices, Rejection, Sizes
from ganflow.data.sources import open_raw
from ganflow.data.work import Finish, Finished
from ganflow.data.writer import Rows
from ganflow.errors import ArtifactError

SAME = ("format", "pieces", "raw_md5", "parameters", "total", "train", "classes")
"""What the pieces of one set have in common."""


def prepare_piece(
    raw: Path,
    out: Path,
    settings: Data,
    part: int,
    parts: int,
    advance: Advance,
    processes: int | None = None,
    sizes: Sizes = SIZES,
) -> dict[str, Any]:
    """Decode piece number `part` of so many into the folder `out`; return its card. Raises what `prepare` does.

    What a piece's images look like, and how many are rejected, is looked at when all are there, by `merge`.
    """
    found = open_raw(raw)
    plan = make_plan(found, settings)
    total = len(plan.images)
    span = slice(total * part // parts, total * (part + 1) // parts)
    with resumed_folder(Piece, out, stamp(raw, settings.json_text(), f"{FORMAT} {part}/{parts}")) as folder:
        rows = Rows(folder.path, span.stop - span.start, settings.image_shape, sizes)
        made = decode(raw, found, plan, span, rows, settings, advance, processes)
        if made.labels is not None:
            np.save(folder.labels, made.labels)
        part_of = {"format": FORMAT, "piece": part, "pieces": parts, "parameters": settings.model_dump(mode="json")}
        return folder.write_card(part_of | asdict(replace(made, labels=None)))


def merge(
    folders: Sequence[Path], out: Path, advance: Advance, processes: int | None = None, sizes: Sizes = SIZES
) -> dict[str, Any]:
    """Put the pieces of a set together into the folder `out`; return its card. The bytes are those of one `prepare`.

    `sizes` is that of the pieces.

    Raises ArtifactError when a piece is missing, is there twice, is damaged, or is of other raw data or settings than
    the others; DataError when the whole breaks a rule.
    """
    pieces = [Piece(folder) for folder in folders]
    cards = [piece.read_card() for piece in pieces]
    _check_together(folders, cards)
    order = sorted(range(len(cards)), key=lambda place: cards[place]["piece"])
    pieces, cards = [pieces[place] for place in order], [cards[place] for place in order]
    settings = parse(Data, cards[0]["parameters"], str(pieces[0].card))
    parts = [_decoded(piece, card) for piece, card in zip(pieces, cards, strict=True)]
    whole = _joined(parts)
    with new_folder(Prepared, out) as folder:
        rows = Rows(folder.path, whole.total, settings.image_shape, sizes)
        keep = whole.keep
        with workers(processes or cores()) as pool:
            copies = chain.from_iterable(map(_copies, pieces, parts, repeat(rows)))
            done = 0
            for count in pool.results(copies):
                done += count
                advance(done, int(keep.sum()))
            files = sorted(pool.results(_finishes(rows, keep)), key=lambda file: file.shard)
        card = conclude(folder, replace(whole, files=files), rows, settings)
        for path in folder.path.glob(".*"):
            path.unlink()
        return card


@dataclass(frozen=True)
class Copy:
    """Copy a file of a piece to rows (n,) of the whole. Raises ArtifactError when it is damaged."""

    path: Path
    md5: str
    rows: Indices
    out: Rows

    def __call__(self) -> int:
        """Do it; how many images there were."""
        check_hash(self.path, self.md5, Piece.MAKER, "md5")
        images = np.load(self.path, mmap_mode="r")
        step = self.out.sizes.chunk_images
        for first in range(0, len(images), step):
            self.out.put(self.rows[first : first + step], images[first : first + step])
        return len(images)


def _copies(piece: Piece, part: Decoded, out: Rows) -> Iterator[Copy]:
    mine = Rows(piece.path, part.span[1] - part.span[0], out.image_shape, out.sizes)
    keep, start = part.keep, part.span[0]
    for file in part.files:
        span = mine.span(file.shard)
        yield Copy(mine.finished(file.shard), file.md5, np.flatnonzero(keep[span]) + span.start + start, out)


def _finishes(rows: Rows, keep: NDArray[np.bool_]) -> Iterator[Finish]:
    for shard in range(rows.shards):
        if keep[rows.span(shard)].any():
            yield Finish(shard, keep[rows.span(shard)], rows)


def _check_together(folders: Sequence[Path], cards: Sequence[dict[str, Any]]) -> None:
    first, wanted = cards[0], cards[0]["pieces"]
    for folder, card in zip(folders, cards, strict=True):
        for key in SAME:
            if card[key] != first[key]:
                raise ArtifactError(
                    f"{folder} and {folders[0]} are no pieces of one set: {key} is {card[key]} and {first[key]}; "
                    "prepare every piece from the same raw data with the same settings"
                )
    there = sorted(card["piece"] for card in cards)
    if there != list(range(wanted)):
        raise ArtifactError(
            f"the pieces {', '.join(f'{piece}/{wanted}' for piece in there)} are given, and the set has {wanted}; "
            f"give each from 0/{wanted} on once"
        )


def _decoded(piece: Piece, card: dict[str, Any]) -> Decoded:
    """What the card says, and the labels."""
    values = {field.name: card[field.name] for field in fields(Decoded)}
    if card["classes"] is not None:
        values["labels"] = np.load(piece.labels)
    for key, kind in (("files", Finished), ("strangers", Rejection), ("rejected", Rejection)):
        values[key] = [kind(**entry) for entry in values[key]]
    return Decoded(**values)


def _joined(parts: Sequence[Decoded]) -> Decoded:
    """All rows; the files are still those of the pieces."""
    labels = [part.labels for part in parts if part.labels is not None]
    kinds: Counter[str] = Counter()
    for part in parts:
        kinds.update(part.kinds)
    return replace(
        parts[0],
        span=(0, parts[0].total),
        labels=np.concatenate(labels) if labels else None,
        left_out=[part.span[0] + place for part in parts for place in part.left_out],
        rejected=[rejection for part in parts for rejection in part.rejected],
        lossy_held_out=sum(part.lossy_held_out for part in parts),
        kinds=dict(kinds),
    )

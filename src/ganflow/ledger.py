"""The ledger's records and its hash chain: pure, no MLflow.

A record is JSON text. Each holds the sha256 of the text before it, so that an edited, replaced or removed record
shows. Who is the champion follows from the records alone.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Event = Literal["adopted", "promoted", "refused", "forced", "rolled back"]
MOVES = ("adopted", "promoted", "forced", "rolled back")
LIMIT = 6000
"""Characters: what MLflow keeps of a parameter."""
Texts = Mapping[int, str]
"""The records' texts by number, from 1."""


@dataclass(frozen=True)
class Record:
    """What happened to a registered model's champion. `was` and `now` are the champion before and after."""

    number: int
    event: Event
    at: str
    """UTC, ISO 8601."""
    who: str
    reason: str
    was: str | None
    now: str | None
    version: str
    """What was decided on."""
    previous: str | None
    """sha256 of the text before; None in the first."""
    nonce: str
    """Makes each record's text its writer's own."""
    passport_sha256: str | None = None
    numbers: dict[str, float] = field(default_factory=dict)
    checks: list[dict[str, Any]] = field(default_factory=list)

    def text(self) -> str:
        """Sorted JSON of at most LIMIT characters; the rules' words go first, the verdict never."""
        values = asdict(self)
        if len(text := json.dumps(values, sort_keys=True)) > LIMIT:
            values["checks"] = [{key: check[key] for key in ("rule", "passed")} for check in self.checks]
            text = json.dumps(values, sort_keys=True)
        return text

    def line(self) -> tuple[str, ...]:
        """The record for a table: number, time, event, version, from, to, who, why."""
        return (
            str(self.number),
            self.at[:19].replace("T", " "),
            self.event,
            self.version,
            self.was or "-",
            self.now or "-",
            self.who,
            self.reason,
        )


HEADER = ("record", "utc", "event", "version", "from", "to", "who", "why")


@dataclass(frozen=True)
class Standing:
    """The aliases that the records give."""

    champion: str | None = None
    previous: str | None = None


def digest(text: str) -> str:
    """sha256 of a record's text."""
    return hashlib.sha256(text.encode()).hexdigest()


def parse(text: str) -> Record | None:
    """The record in a text; None where it is not one."""
    try:
        return Record(**json.loads(text))
    except (ValueError, TypeError):
        return None


def records(texts: Texts) -> list[Record]:
    """Every record that can be read, in order."""
    return [record for number in sorted(texts) if (record := parse(texts[number]))]


def standing(texts: Texts) -> Standing:
    """Who is the champion, and who was before."""
    moves = [record for record in records(texts) if record.event in MOVES]
    return Standing(moves[-1].now, moves[-1].was) if moves else Standing()


def head(texts: Texts, witness: tuple[int, str] | None) -> tuple[int, str | None]:
    """Number and digest of the last record: the witness's word before the text's, so that damage shows for ever."""
    last = max(texts, default=0)
    if witness and witness[0] >= last:
        return witness
    return last, digest(texts[last]) if last else None


def remembers(witness: tuple[int, str] | None, texts: Texts) -> bool:
    """Whether the witness knows the last record."""
    return not texts or (witness is not None and witness[0] >= max(texts))


def damage(texts: Texts, witness: tuple[int, str] | None) -> list[str]:
    """What is wrong with the chain, a sentence each. The witness is the head that the registry remembers."""
    last = max([*texts, witness[0] if witness else 0])
    found = [f"record {number} was removed" for number in range(1, last + 1) if number not in texts]
    for number, text in sorted(texts.items()):
        record, before = parse(text), texts.get(number - 1)
        if record is None or record.number != number:
            found.append(f"record {number} was edited: it cannot be read as one")
        elif number > 1 and before is not None and record.previous != digest(before):
            found.append(f"record {number - 1} was edited: record {number} remembers another")
    if witness and witness[0] in texts and digest(texts[witness[0]]) != witness[1]:
        found.append(f"record {witness[0]} was edited: the registry remembers another")
    return found

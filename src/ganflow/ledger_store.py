"""The ledger in MLflow: a run whose parameters are the records. Aliases follow from it.

MLflow's only two writes that a second writer cannot undo are a parameter (never changed once logged) and an
experiment's name (unique). Both are used as compare-and-swap: the name chooses the one run that is a model's ledger,
and the parameter `000007` the one record that is its seventh. So there is no lock, and nothing to clean up after a
writer that died: what it appended stands, and the next writer moves the aliases that it left behind.
"""

import getpass
import os
import socket
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import mlflow
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from ganflow import ledger
from ganflow.errors import RegistryError
from ganflow.ledger import Event, Record, Standing, Texts
from ganflow.tracking import mlflow_errors

CHAMPION, PREVIOUS = "champion", "previous"
WITNESS = "ganflow.ledger_head"
"""Tag of the registered model: number and digest of the last record, which tells when that one is removed."""
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
SHOWN = 25
"""Records in the run's description, which MLflow's pages show as a table."""


@dataclass(frozen=True)
class Draft:
    """A record before it has its place in the chain."""

    event: Event
    version: str
    reason: str
    passport_sha256: str | None = None
    numbers: dict[str, float] | None = None
    checks: list[dict[str, Any]] | None = None

    @property
    def moves(self) -> bool:
        """Whether `version` becomes the champion."""
        return self.event in ledger.MOVES


@dataclass(frozen=True)
class Registered:
    """What the registry says of a model: its aliases, and the ledger's head that it remembers."""

    aliases: dict[str, str]
    witness: tuple[int, str] | None


def record(name: str, draw_up: Callable[[Standing], Draft | None]) -> None:
    """Append what `draw_up` makes of the present standing, then move the aliases.

    `draw_up` is asked again when another writer was faster: the decision is always on the champion that it replaces.
    None appends nothing. Raises RegistryError when MLflow refuses.
    """
    with mlflow_errors():
        book = _open(name)
        settle(name, book)
        while True:
            seen, texts = registered(name), _texts(book)  # in this order: the witness is never ahead of the texts
            draft = draw_up(ledger.standing(texts))
            if draft is None:
                return
            if _append(book, texts, seen.witness, draft):
                settle(name, book)
                return


def settle(name: str, book: str) -> None:
    """Make the aliases what the ledger says; a writer that comes between is settled too."""
    while True:
        seen, texts = registered(name), _texts(book)
        if not texts and CHAMPION in seen.aliases:
            _append(book, texts, seen.witness, Draft("adopted", seen.aliases[CHAMPION], "it was so before the ledger"))
            continue
        wanted = _wanted(name, texts, seen)
        found = {alias: seen.aliases.get(alias) for alias in wanted}
        if wanted == found and ledger.remembers(seen.witness, texts):
            return
        _point(name, book, texts, seen, wanted)


def read(name: str) -> Texts:
    """The records' texts by number; empty where there is no ledger."""
    with mlflow_errors():
        book = _find(name)
        return _texts(book) if book else {}


def standing(name: str) -> Standing:
    """Who is the champion, and who was before: by the ledger, or by the alias where there is no ledger yet."""
    seen, texts = _both(name)
    return ledger.standing(texts) if texts else Standing(seen.aliases.get(CHAMPION))


def verify(name: str) -> list[str]:
    """What is wrong with the ledger, and where the aliases disagree with it; a sentence each."""
    seen, texts = _both(name)
    wanted = ledger.standing(texts)
    wrong = [
        f"the alias {alias} is at {seen.aliases.get(alias, 'no version')}, and the ledger says {version or 'none'}"
        for alias, version in ((CHAMPION, wanted.champion), (PREVIOUS, wanted.previous))
        if (texts or seen.witness) and seen.aliases.get(alias) != version
    ]
    return [*ledger.damage(texts, seen.witness), *wrong]


def registered(name: str) -> Registered:
    """Aliases and witness; empty for a model that is not there."""
    try:
        model = MlflowClient().get_registered_model(name)
    except MlflowException as error:
        if error.error_code in ABSENT:
            return Registered({}, None)
        raise
    number, _, sha256 = model.tags.get(WITNESS, "").partition(" ")
    witness = (int(number), sha256) if number.isdigit() else None
    return Registered({alias: str(version) for alias, version in model.aliases.items()}, witness)


def _both(name: str) -> tuple[Registered, Texts]:
    with mlflow_errors():
        return registered(name), read(name)


def _append(book: str, texts: Texts, witness: tuple[int, str] | None, draft: Draft) -> bool:
    """Write the draft behind the last record; False when another writer was faster."""
    champion = ledger.standing(texts).champion
    number, previous = ledger.head(texts, witness)
    made = Record(
        number=number + 1,
        event=draft.event,
        at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        who=_who(),
        reason=draft.reason,
        was=champion,
        now=draft.version if draft.moves else champion,
        version=draft.version,
        previous=previous,
        nonce=uuid.uuid4().hex,
        passport_sha256=draft.passport_sha256,
        numbers=draft.numbers or {},
        checks=draft.checks or [],
    )
    try:
        MlflowClient().log_param(book, _key(made.number), made.text())
    except MlflowException:
        if made.number in _texts(book):
            return False
        raise
    return True


def _point(name: str, book: str, texts: Texts, seen: Registered, wanted: dict[str, str | None]) -> None:
    """Set what differs: aliases, MLflow's page, and last the witness."""
    client = MlflowClient()
    for alias, version in wanted.items():
        found = seen.aliases.get(alias)
        if found == version:
            continue
        if version is None:
            client.delete_registered_model_alias(name, alias)
        else:
            _write(partial(client.set_registered_model_alias, name, alias, version))
        _say_if_strange(name, alias, found, texts)
    if texts:
        _write(partial(client.set_tag, book, "mlflow.note.content", _table(name, texts)))
    if not ledger.remembers(seen.witness, texts):  # what it remembers is never written over
        last = max(texts)
        _write(partial(client.set_registered_model_tag, name, WITNESS, f"{last} {ledger.digest(texts[last])}"))


def _write(write: Callable[[], None]) -> None:
    """Write, again if need be: of two writers who make a tag or an alias at once, MLflow lets one fail."""
    try:
        write()
    except MlflowException:
        write()


def _wanted(name: str, texts: Texts, seen: Registered) -> dict[str, str | None]:
    """The ledger's aliases; none for a version that was deleted."""
    stand = ledger.standing(texts)
    aliases = {CHAMPION: stand.champion, PREVIOUS: stand.previous}
    return {
        alias: version if version and (seen.aliases.get(alias) == version or _exists(name, version)) else None
        for alias, version in aliases.items()
    }


def _exists(name: str, version: str) -> bool:
    try:
        MlflowClient().get_model_version(name, version)
    except MlflowException as error:
        if error.error_code in ABSENT:
            return False
        raise
    return True


def _say_if_strange(name: str, alias: str, found: str | None, texts: Texts) -> None:
    """A writer that died leaves the champion of some record; anything else was moved by hand."""
    known = {version for record in ledger.records(texts) for version in (record.was, record.now)}
    if alias == CHAMPION and found and found not in known:
        print(
            f"ganflow: the alias {alias} of {name} was moved to version {found} by hand; the ledger's is back",
            file=sys.stderr,
        )


def _texts(book: str) -> dict[int, str]:
    parameters = MlflowClient().get_run(book).data.params
    return {int(key): text for key, text in parameters.items() if key.isdigit()}


def _key(number: int) -> str:
    return f"{number:06d}"


def _find(name: str) -> str | None:
    """Id of the run that is the model's ledger."""
    experiment = mlflow.get_experiment_by_name(_title(name))
    if experiment is None:
        return None
    client = MlflowClient()
    runs: list[Run] = list(
        client.search_runs(
            [experiment.experiment_id],
            "tags.`ganflow.ledger` != ''",
            run_view_type=ViewType.ALL,
            order_by=["attributes.start_time ASC"],
        )
    )
    if experiment.lifecycle_stage != "active" or not runs or runs[0].info.lifecycle_stage != "active":
        raise RegistryError(
            f"the ledger of {name} was deleted; `mlflow runs restore` and `mlflow experiments restore` "
            f"--experiment-id {experiment.experiment_id} bring it back"
        )
    return str(runs[0].info.run_id)


def _open(name: str) -> str:
    """The model's ledger, begun if there is none: under a name of its own, then renamed, which only one can."""
    if book := _find(name):
        return book
    client = MlflowClient()
    draft = client.create_experiment(f"{_title(name)}, begun {uuid.uuid4().hex}")
    client.create_run(draft, run_name="ledger", tags={"ganflow.ledger": name})
    try:
        client.rename_experiment(draft, _title(name))
    except MlflowException:
        client.delete_experiment(draft)
        if _find(name) is None:
            raise
    return _open(name)


def _title(name: str) -> str:
    return f"ledger of {name}"


def _table(name: str, texts: Texts) -> str:
    """Markdown."""
    rows = [record.line() for record in ledger.records(texts)][-SHOWN:]
    lines = ["| " + " | ".join(cell[:80].replace("|", "/") for cell in row) + " |" for row in [ledger.HEADER, *rows]]
    lines.insert(1, "|" + " --- |" * len(ledger.HEADER))
    title = f"Every decision on the champion of {name}, the last {SHOWN}; the parameters hold all, in full."
    return "\n".join([title, "", *lines])


def _who() -> str:
    try:
        user = os.environ.get("MLFLOW_TRACKING_USERNAME") or getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"

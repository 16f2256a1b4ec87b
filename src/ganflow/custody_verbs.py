"""The verbs of who is the champion and where it came from. Heavy imports wait until a verb needs them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganflow.errors import ArtifactError, ConfigError, Refused, RegistryError
from ganflow.verbs import Arguments, add_verb

if TYPE_CHECKING:
    from ganflow.ledger import Texts

REASON = 500
"""Characters of a reason: a ledger's record has its limit."""


def add(verbs: Any) -> None:
    """Add the verbs to the command line."""
    promote = add_verb(verbs, "promote", "make the candidate the champion, if the gate agrees", run_promote)
    promote.add_argument("--version", type=int, metavar="N", help="this version instead of the candidate")
    promote.add_argument("--dry-run", action="store_true", help="decide; record and move nothing")
    promote.add_argument("--force", action="store_true", help="promote against the gate; needs --reason")
    promote.add_argument("--reason", metavar="TEXT", help="why it is forced; the ledger keeps it")
    promote.add_argument(
        "--reference",
        type=Path,
        metavar="DIR",
        default=Path("run/reference"),
        help="a champion of another protocol is measured again against this (default: %(default)s, where it is there)",
    )
    promote.add_argument("--out", type=Path, metavar="FILE", default=Path("run/decision.json"), help="the decision")
    promote.add_argument("--json", action="store_true", help="print the decision as JSON")

    rollback = add_verb(verbs, "rollback", "make an earlier version the champion again", run_rollback)
    rollback.add_argument("--to", type=int, metavar="N", help="this version instead of the previous champion")
    rollback.add_argument("--reason", metavar="TEXT", required=True, help="why; the ledger keeps it")

    history = add_verb(verbs, "history", "every decision on the champion, from the ledger", run_history)
    history.add_argument("--verify", action="store_true", help="check the records' hash chain and the aliases")
    history.add_argument("--json", action="store_true", help="print the records as JSON")

    lineage = add_verb(
        verbs, "lineage", "where a model comes from, each thing looked at again", run_lineage, params=False
    )
    lineage.add_argument("model", metavar="MODEL", help="a model folder, or models:/NAME@champion")
    lineage.add_argument("--json", action="store_true", help="print the tree as JSON")
    lineage.add_argument("--picture", type=Path, metavar="FILE", help="write the tree as an .svg")

    again = add_verb(verbs, "reproduce", "make a model again, and compare", run_reproduce, params=False)
    again.add_argument("model", metavar="MODEL", help="a model folder, or models:/NAME@champion")
    again.add_argument("--out", type=Path, metavar="DIR", default=Path("run/reproduced"), help="a git worktree, new")
    again.add_argument("--json", action="store_true", help="print the verdicts as JSON")


def run_promote(arguments: Arguments) -> None:
    """`ganflow promote`."""
    from ganflow import steps
    from ganflow.config import load

    params = load(arguments.params, arguments.overrides)
    name = params.register_.name
    if arguments.force != (arguments.reason is not None):
        raise ConfigError('--force and --reason go together: `ganflow promote --force --reason "why"`')
    decision = steps.promote_version(
        name,
        str(arguments.version or _candidate(name)),
        params.promote,
        out=None if arguments.dry_run else arguments.out,
        reference=arguments.reference if arguments.reference.is_dir() else None,
        force=_reason(arguments.reason) if arguments.force else None,
        dry_run=arguments.dry_run,
    )
    print(json.dumps(decision.as_dict(), indent=2) if arguments.json else decision.table(name))
    if decision.verdict == "refused":
        raise Refused(f"version {decision.candidate.version} of {name} is not promoted: {decision.reason}")


def run_rollback(arguments: Arguments) -> None:
    """`ganflow rollback`."""
    from ganflow import custody
    from ganflow.config import load

    name = load(arguments.params, arguments.overrides).register_.name
    version = custody.roll_back(name, arguments.to and str(arguments.to), _reason(arguments.reason))
    print(f"rolled back: version {version} of {name} is the champion; it loads and draws its recorded samples")


def run_history(arguments: Arguments) -> None:
    """`ganflow history`."""
    from dataclasses import asdict

    from ganflow import ledger, ledger_store
    from ganflow.config import load
    from ganflow.promotion import columns

    name = load(arguments.params, arguments.overrides).register_.name
    texts = ledger_store.read(name)
    records = ledger.records(texts)
    if arguments.json:
        print(json.dumps([asdict(record) for record in records], indent=2))
    elif records:
        print("\n".join(columns([ledger.HEADER, *(record.line() for record in records)])))
    else:
        print(f"{name} has no ledger yet; `ganflow promote` begins it")
    if arguments.verify:
        _require_sound(name, texts)


def run_lineage(arguments: Arguments) -> None:
    """`ganflow lineage`."""
    from ganflow import ancestry
    from ganflow.artifacts import write_text

    tree = ancestry.trace(ancestry.origin(arguments.model))
    if arguments.picture:
        write_text(arguments.picture, tree.svg())
    print(json.dumps(tree.as_dict(), indent=2) if arguments.json else "\n".join(tree.lines()))
    if problems := tree.problems():
        raise ArtifactError(f"{arguments.model} is not what it was: {'; '.join(problems)}; do not rely on it")


def run_reproduce(arguments: Arguments) -> None:
    """`ganflow reproduce`."""
    from ganflow import ancestry, reproduce
    from ganflow.promotion import columns

    verdicts = reproduce.reproduce(ancestry.origin(arguments.model), arguments.out)
    reproduce.write_verdicts(arguments.out / "run" / "reproduction.json", verdicts)
    if arguments.json:
        print(json.dumps([verdict.as_dict() for verdict in verdicts], indent=2))
    else:
        print("\n".join(columns([(verdict.artifact, verdict.outcome, verdict.said) for verdict in verdicts])))
    if different := [verdict.artifact for verdict in verdicts if verdict.outcome == "different"]:
        raise ArtifactError(f"{', '.join(different)} of {arguments.model} came out different; the lines above say why")


def _require_sound(name: str, texts: "Texts") -> None:
    from ganflow import ledger, ledger_store

    wrong = ledger_store.verify(name)
    if wrong:
        raise RegistryError(
            f"the ledger of {name} does not hold: {'; '.join(wrong)}; compare it with a backup of the MLflow database, "
            "and let `ganflow promote` or `ganflow rollback` set aliases"
        )
    if texts:
        last = max(texts)
        print(f"\nverified: {last} records, the last is {ledger.digest(texts[last])}; the aliases agree")


def _candidate(name: str) -> str:
    from ganflow import registry

    version = registry.version_by_alias(name, registry.CANDIDATE)
    if version is None:
        raise RegistryError(
            f"{name} has no version with the alias candidate; run `ganflow register`, or, where dvc.lock remembers a "
            "registration that the registry has lost, `dvc repro --single-item --force register`"
        )
    return version


def _reason(text: str) -> str:
    if not text.strip() or len(text) > REASON:
        raise ConfigError(f"the reason has {len(text)} characters; say why in 1 to {REASON}")
    return text

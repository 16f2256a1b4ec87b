"""Who is the champion: the gate's decisions and the rollbacks, each entered in the ledger before an alias moves."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from ganflow import ledger_store, registry
from ganflow.artifacts import Champion, Evaluation, Reference, fingerprint, new_folder
from ganflow.config import Promote
from ganflow.errors import RegistryError
from ganflow.ledger import Standing
from ganflow.ledger_store import Draft
from ganflow.promotion import Candidate, Decision, decide, forced, paired_standard_error
from ganflow.protocol import differing_field

Again = Callable[[str, Candidate], Candidate | None]
"""The version of the champion as the candidate was measured, or None where that cannot be had."""


def promote(name: str, version: str, rules: Promote, again: Again | None, force: str | None, dry_run: bool) -> Decision:
    """Decide on a version against the champion of that moment; unless this is a dry run, record it and move.

    A champion of another protocol is measured by `again`. Raises RegistryError when MLflow lacks the version, or the
    champion's files and nothing forces.
    """
    candidate = registry.measured(name, version)
    decisions: list[Decision] = []

    def draw_up(standing: Standing) -> Draft | None:
        decision = _decide(name, candidate, standing.champion, rules, again, force)
        decisions.append(decision)
        return None if decision.verdict == "unchanged" else _draft(decision)

    if dry_run:
        draw_up(ledger_store.standing(name))
    else:
        ledger_store.record(name, draw_up)
    return decisions[-1]


def roll_back(name: str, version: str | None, reason: str) -> str:
    """Make an earlier version the champion again, the previous one unless `version` is given; returns it.

    It is loaded, and its samples are compared with the recorded ones, before anything moves. Raises RegistryError
    when there is no such version, it does not serve, or is the champion already.
    """
    gone_to: list[str] = []

    def draw_up(standing: Standing) -> Draft:
        target = version or standing.previous
        if target is None or target == standing.champion:
            raise RegistryError(_nowhere(name, target))
        if target not in gone_to:
            registry.require_samples(name, target)
        gone_to.append(target)
        found = registry.measured(name, target)
        return Draft("rolled back", target, reason, found.passport_sha256, {found.score: found.fid})

    ledger_store.record(name, draw_up)
    return gone_to[-1]


def measure_champion(name: str, evaluation: Evaluation, reference: Reference, out: Path) -> None:
    """Measure the champion as the candidate of `evaluation` was measured, if that was otherwise; `out` is a Champion.

    Raises RegistryError when the champion's files are lost, or lack what it takes.
    """
    protocol = evaluation.read_card()["protocol"]
    version = ledger_store.standing(name).champion
    unlike = version and differing_field(protocol, registry.measured(name, version).protocol)
    with new_folder(Champion, out) as folder:
        if version and unlike:
            registry.measure_again(name, version, reference, protocol, folder.evaluation.path)
        folder.write_card({"version": version if unlike else None})


def by_reference(name: str, reference: Reference) -> Again:
    """Measure now, where the reference is the one that the candidate was measured against."""

    def again(version: str, candidate: Candidate) -> Candidate | None:
        if not reference.read_card()["protocol"].items() <= candidate.protocol.items():
            return None
        with tempfile.TemporaryDirectory() as folder:
            registry.measure_again(name, version, reference, candidate.protocol, Path(folder) / "evaluation")
            return registry.measured(name, version, Evaluation(Path(folder) / "evaluation"))

    return again


def by_task(name: str, champion: Champion) -> Again:
    """What the task champion has measured, if it is still the champion."""

    def again(version: str, candidate: Candidate) -> Candidate | None:
        is_it = champion.read_card()["version"] == version
        return registry.measured(name, version, champion.evaluation) if is_it else None

    return again


def _decide(
    name: str,
    candidate: Candidate,
    champion: str | None,
    rules: Promote,
    again: Again | None,
    force: str | None,
) -> Decision:
    holder = _champion(name, champion, candidate, again, force) if champion else None
    if champion and holder is None:
        return Decision("forced", f"{force} (version {champion}, the champion, cannot be read)", candidate, None)
    count = registry.contenders(name, champion, fingerprint(candidate.protocol)) if champion else 1
    decision = decide(candidate, holder, rules, count)
    return forced(decision, force) if force else decision


def _champion(
    name: str, version: str, candidate: Candidate, again: Again | None, force: str | None
) -> Candidate | None:
    """The champion as the candidate's protocol sees it; None when it is lost and the promotion is forced."""
    if version == candidate.version:
        return candidate
    try:
        found = registry.measured(name, version)
    except RegistryError:
        if force:
            return None
        raise
    if again and differing_field(candidate.protocol, found.protocol):
        return again(version, candidate) or found
    return found


def _draft(decision: Decision) -> Draft:
    candidate, champion = decision.candidate, decision.champion
    numbers = {candidate.score: candidate.fid, "standard_error": candidate.standard_error}
    if champion:
        numbers["champion"] = champion.fid
        if not differing_field(candidate.protocol, champion.protocol):
            numbers["gain"] = champion.fid - candidate.fid
            numbers["gain_standard_error"] = paired_standard_error(candidate.influence, champion.influence)
    checks = [vars(check) for check in decision.checks]
    assert decision.verdict != "unchanged"
    return Draft(decision.verdict, candidate.version, decision.reason, candidate.passport_sha256, numbers, checks)


def _nowhere(name: str, target: str | None) -> str:
    if target is None:
        return f"{name} has no previous champion to go back to; name a version with --to"
    return f"version {target} of {name} is the champion already; name another version with --to"

"""The gate: a pure decision from two measured models and the rules of params.yaml. No side effects, no MLflow."""

import math
from dataclasses import dataclass, fields, replace
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ganflow.config import Promote
from ganflow.protocol import differing_field

Verdict = Literal["promoted", "refused", "unchanged", "forced"]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A model version and what `evaluate` measured of it."""

    version: str
    score: str
    """Name of the score, protocol included: fid_classifier_10k."""
    fid: float
    standard_error: float
    protocol: dict[str, Any]
    influence: NDArray[np.float64]
    """(N,): each generated image's influence on the FID, in the order of the latents."""
    precision: float | None = None
    recall: float | None = None
    passport_sha256: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON: everything but the influences."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "influence"}


@dataclass(frozen=True)
class Check:
    """One rule, and what came of it in words."""

    rule: str
    passed: bool
    said: str


@dataclass(frozen=True, eq=False)
class Decision:
    """What the gate said, rule by rule, and why, in one sentence."""

    verdict: Verdict
    reason: str
    candidate: Candidate
    champion: Candidate | None
    checks: tuple[Check, ...] = ()

    @property
    def moves(self) -> bool:
        """Whether the champion changes."""
        return self.verdict in ("promoted", "forced")

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "checks": [vars(check) for check in self.checks],
            "candidate": self.candidate.as_dict(),
            "champion": self.champion and self.champion.as_dict(),
        }

    def table(self, name: str) -> str:
        """The decision for people: a line a model, a line a rule, and the sentence."""
        models = [("candidate", self.candidate)]
        if self.champion and self.verdict != "unchanged":
            models.insert(0, ("champion", self.champion))
        elif self.verdict != "refused":
            models = [("champion", self.candidate)]
        header = ("model", "version", "role", "score", "value", "± 1 s.e.")
        lines = columns([header, *(_row(name, role, model) for role, model in models)])
        if len(self.checks) > 1:
            lines += [
                "",
                *columns([(check.rule, "yes" if check.passed else "no", check.said) for check in self.checks]),
            ]
        return "\n".join([*lines, "", f"{self.verdict}: {self.reason}"])


def decide(candidate: Candidate, champion: Candidate | None, rules: Promote, contenders: int = 1) -> Decision:
    """Promote when the candidate keeps every bound, and is better than the champion beyond the noise.

    `contenders` is how many versions, this one among them, were measured against the champion: each is a draw.
    Scores of unlike protocols are never compared.
    """
    if champion and champion.version == candidate.version:
        return Decision("unchanged", f"version {candidate.version} is the champion already", candidate, champion)
    checks = _bounds(candidate, rules)
    if champion is None:
        checks.append(Check("champion", True, "there is no champion yet"))
    elif unlike := _unlike(candidate, champion):
        checks.append(Check("protocol", False, unlike))
    else:
        checks += [_better(candidate, champion, rules, contenders), *_no_worse(candidate, champion, rules)]
    failed = [check for check in checks if not check.passed]
    last = next(check for check in checks if check.rule in ("champion", "protocol", "better"))
    return Decision("refused" if failed else "promoted", (failed or [last])[0].said, candidate, champion, tuple(checks))


def forced(decision: Decision, reason: str) -> Decision:
    """The refused candidate promoted all the same, with what the gate said beside the reason."""
    if decision.verdict != "refused":
        return decision
    return replace(decision, verdict="forced", reason=f"{reason} (the gate refused: {decision.reason})")


def paired_standard_error(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """Standard error of the difference of two FIDs, from their influences (N,) on common latents.

    The difference of two statistics has the difference of their influence functions as its own (Hampel 1974), so
    what both models do alike with a latent cancels: sqrt(Var(ours - theirs) / N).
    """
    return float(np.sqrt((ours - theirs).var(ddof=1) / len(ours)))


def columns(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows of text, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _bounds(candidate: Candidate, rules: Promote) -> list[Check]:
    checks = []
    if rules.max_fid is not None:
        within = candidate.fid <= rules.max_fid
        word = "within" if within else "above"
        checks.append(
            Check("max_fid", within, f"{candidate.score} {candidate.fid:.3f} is {word} the bound {rules.max_fid:g}")
        )
    for metric, least in (("precision", rules.min_precision), ("recall", rules.min_recall)):
        if least is not None:
            checks.append(_at_least(f"min_{metric}", metric, getattr(candidate, metric), least))
    return checks


def _at_least(rule: str, metric: str, value: float | None, least: float) -> Check:
    if value is None:
        return Check(rule, False, _lacks("candidate", metric, rule))
    within = value >= least
    return Check(rule, within, f"{metric} {value:.3f} is {'within' if within else 'below'} the bound {least:g}")


def _unlike(candidate: Candidate, champion: Candidate) -> str | None:
    key = differing_field(candidate.protocol, champion.protocol)
    if key is None:
        return None
    there, here = champion.protocol.get(key), candidate.protocol.get(key)
    return (
        f"the champion was measured under another protocol ({key} is {there!r} there and {here!r} here); give "
        "--reference with the folder that the candidate was measured against, and the champion is measured again"
    )


def _better(candidate: Candidate, champion: Candidate, rules: Promote, contenders: int) -> Check:
    """With m contenders each is tested at the level (1 - confidence)/m (Bonferroni), so that all together keep it."""
    contenders = contenders - 1 + rules.best_of
    gain = champion.fid - candidate.fid
    noise = paired_standard_error(candidate.influence, champion.influence)
    needed = rules.min_gain + NormalDist().inv_cdf(1 - (1 - rules.confidence) / contenders) * noise
    said = (
        f"{candidate.score} {candidate.fid:.3f} against the champion's {champion.fid:.3f}: a gain of {gain:.3f}, "
        f"where {rules.confidence:.0%} confidence asks for more than {needed:.3f}"
    )
    if contenders > 1:
        said += f", this being one of {contenders} contenders"
    return Check("better", gain > needed, said)


def _no_worse(candidate: Candidate, champion: Candidate, rules: Promote) -> list[Check]:
    checks = []
    for metric, most in (("precision", rules.max_precision_loss), ("recall", rules.max_recall_loss)):
        if most is not None:
            checks.append(_loses_at_most(metric, getattr(candidate, metric), getattr(champion, metric), most))
    return checks


def _loses_at_most(metric: str, ours: float | None, theirs: float | None, most: float) -> Check:
    rule = f"max_{metric}_loss"
    if ours is None or theirs is None:
        return Check(rule, False, _lacks("candidate" if ours is None else "champion", metric, rule))
    loss = theirs - ours
    # The scores' own rounding must not decide: 0.70 - 0.65 is 0.04999…
    within = loss < most or math.isclose(loss, most, abs_tol=1e-9)
    word = "within" if within else "beyond"
    return Check(rule, within, f"{metric} {ours:.3f} against {theirs:.3f}: a loss {word} the allowed {most:g}")


def _lacks(role: str, metric: str, rule: str) -> str:
    return (
        f"the scores of the {role} have no {metric}, which promote.{rule} asks for; evaluate and register it "
        "again, or set the rule to null"
    )


def _row(name: str, role: str, model: Candidate) -> tuple[str, ...]:
    return (name, model.version, role, model.score, f"{model.fid:.3f}", f"{model.standard_error:.3f}")

"""The gate: a pure decision from two measured models and the rules of params.yaml. No side effects, no MLflow."""

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, Literal

from ganflow.config import Promote

Verdict = Literal["promoted", "refused", "unchanged"]


@dataclass(frozen=True)
class Candidate:
    """A model version and what `evaluate` measured of it."""

    version: str
    score: str
    """Name of the score, protocol included: fid_classifier_10k."""
    fid: float
    standard_error: float
    protocol: dict[str, Any]


@dataclass(frozen=True)
class Decision:
    """What the gate said, and why, in one sentence."""

    verdict: Verdict
    reason: str
    candidate: Candidate
    champion: Candidate | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def table(self, name: str) -> str:
        """The decision for people: a line a model, and the sentence."""
        models = [("candidate", self.candidate)]
        if self.champion and self.verdict != "unchanged":
            models.insert(0, ("champion", self.champion))
        elif self.verdict != "refused":
            models = [("champion", self.candidate)]
        header = ("model", "version", "role", "score", "value", "± 1 s.e.")
        rows = [header, *(_row(name, role, model) for role, model in models)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, "", f"{self.verdict}: {self.reason}"])


def decide(candidate: Candidate, champion: Candidate | None, rules: Promote) -> Decision:
    """Promote when the candidate's FID is below the bound, and below the champion's beyond the noise.

    Two FIDs of independent samples differ by d with the standard error sqrt(a² + b²); the candidate is better when
    d exceeds z(confidence) of them. Scores of unlike protocols are never compared.
    """

    def verdict(word: Verdict, reason: str) -> Decision:
        return Decision(word, reason, candidate, champion)

    if champion and champion.version == candidate.version:
        return verdict("unchanged", f"version {candidate.version} is the champion already")
    if rules.max_fid is not None and candidate.fid > rules.max_fid:
        return verdict("refused", f"{candidate.score} {candidate.fid:.3f} is above the bound {rules.max_fid:g}")
    if champion is None:
        return verdict("promoted", "there is no champion yet")
    unlike = [
        key for key in sorted(candidate.protocol | champion.protocol) if _field(candidate, key) != _field(champion, key)
    ]
    if unlike:
        key = unlike[0]
        return verdict(
            "refused",
            f"the champion was measured under another protocol ({key} is {_field(champion, key)!r} there and "
            f"{_field(candidate, key)!r} here); evaluate and register the champion again under this one",
        )
    gain = champion.fid - candidate.fid
    noise = NormalDist().inv_cdf(rules.confidence) * math.hypot(candidate.standard_error, champion.standard_error)
    numbers = (
        f"{candidate.score} {candidate.fid:.3f} against the champion's {champion.fid:.3f}: a gain of {gain:.3f}, "
        f"where {rules.confidence:.0%} confidence asks for more than {noise:.3f}"
    )
    return verdict("promoted" if gain > noise else "refused", numbers)


def _row(name: str, role: str, model: Candidate) -> tuple[str, ...]:
    return (name, model.version, role, model.score, f"{model.fid:.3f}", f"{model.standard_error:.3f}")


def _field(model: Candidate, key: str) -> Any:
    return model.protocol.get(key)

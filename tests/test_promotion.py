"""The gate, row by row. The numbers in the rows are worked out by hand from the formula in docs/promote.md."""

import numpy as np
import pytest

from ganflow.config import Promote
from ganflow.promotion import Candidate, decide, forced, paired_standard_error

PROTOCOL = {"extractor": "classifier", "real_md5": "a", "seed": 0}
N = 10_000
OURS, THEIRS = np.tile([1.0, -1.0, 1.0, -1.0], N // 4), np.tile([1.0, 1.0, -1.0, -1.0], N // 4)
"""Two uncorrelated influences of variance one."""


def model(version="2", fid=10.0, se=0.1, shape=OURS, protocol=PROTOCOL, precision=None, recall=None):
    influence = se * np.sqrt(N - 1) * shape
    return Candidate(version, "fid_classifier_10k", fid, se, protocol, influence, precision, recall)


def old(fid=10.0, se=0.1, shape=THEIRS, **other):
    return model("1", fid, se, shape, **other)


def other(**changes):
    return {**PROTOCOL, **changes}


YES, NO, SAME = "promoted", "refused", "unchanged"
ROWS = {
    # No champion yet: only the bounds speak.
    "first": (model(), None, {}, 1, YES, "no champion yet"),
    "first above the bound": (model(fid=31), None, {"max_fid": 30}, 1, NO, "31.000 is above the bound 30"),
    "first within the bound": (model(fid=29), None, {"max_fid": 30}, 1, YES, "no champion yet"),
    "first on the bound": (model(fid=30), None, {"max_fid": 30}, 1, YES, "no champion yet"),
    "first, precise": (model(precision=0.8), None, {"min_precision": 0.8}, 1, YES, "no champion yet"),
    "first, not precise": (model(precision=0.7), None, {"min_precision": 0.8}, 1, NO, "precision 0.700 is below the"),
    "first, precision unknown": (model(), None, {"min_precision": 0.8}, 1, NO, "candidate have no precision"),
    "first, recalls": (model(recall=0.5), None, {"min_recall": 0.4}, 1, YES, "no champion yet"),
    "first, forgets": (model(recall=0.3), None, {"min_recall": 0.4}, 1, NO, "recall 0.300 is below the bound 0.4"),
    "first, recall unknown": (model(), None, {"min_recall": 0.4}, 1, NO, "promote.min_recall asks for"),
    "first of many": (model(), None, {"best_of": 50}, 9, YES, "no champion yet"),
    "first, losses cannot be": (model(), None, {"max_recall_loss": 0.1}, 1, YES, "no champion yet"),
    # The champion itself.
    "same": (model("1"), old(), {}, 1, SAME, "version 1 is the champion already"),
    "same, above the bound": (model("1", fid=31), old(fid=31), {"max_fid": 30}, 1, SAME, "champion already"),
    # The noise of the difference is sqrt(0.1² + 0.1²) = 0.1414; z(95 %) = 1.645 of it is 0.2326.
    "clearly better": (model(fid=9), old(), {}, 1, YES, "95% confidence asks for more than 0.233"),
    "worse": (model(fid=11), old(), {}, 1, NO, "a gain of -1.000"),
    "equal": (model(fid=10), old(), {}, 1, NO, "a gain of 0.000"),
    "just above the noise": (model(fid=9.76), old(), {}, 1, YES, "a gain of 0.240"),
    "just below the noise": (model(fid=9.77), old(), {}, 1, NO, "a gain of 0.230"),
    "less confidence": (model(fid=9.77), old(), {"confidence": 0.9}, 1, YES, "more than 0.181"),
    "more confidence": (model(fid=9.7), old(), {"confidence": 0.99}, 1, NO, "more than 0.329"),
    "candidate uncertain": (model(fid=9.5, se=0.4), old(), {}, 1, NO, "more than 0.678"),
    "champion uncertain": (model(fid=9.5), old(se=0.4), {}, 1, NO, "more than 0.678"),
    # Pairs: what both do alike with a latent cancels. 0.1 and 0.1 of the same shape leave nothing.
    "paired, alike": (model(fid=9.99), old(shape=OURS), {}, 1, YES, "more than 0.000"),
    "paired, twin": (model(fid=10), old(shape=OURS), {}, 1, NO, "a gain of 0.000"),
    "paired, half alike": (model(fid=9.9), old(se=0.05, shape=OURS), {}, 1, YES, "more than 0.082"),
    "paired, opposite": (model(fid=9.7), old(shape=-OURS), {}, 1, NO, "more than 0.329"),
    "paired, opposite, better": (model(fid=9.6), old(shape=-OURS), {}, 1, YES, "more than 0.329"),
    # A margin on top of the noise.
    "margin kept": (model(fid=9.2), old(), {"min_gain": 0.5}, 1, YES, "more than 0.733"),
    "margin not kept": (model(fid=9.3), old(), {"min_gain": 0.5}, 1, NO, "more than 0.733"),
    "margin alone": (model(fid=9.5), old(shape=OURS), {"min_gain": 0.5}, 1, NO, "more than 0.500"),
    # The best of many: z(1 - 0.05/20) = 2.807 of 0.1414 is 0.397.
    "best of twenty": (model(fid=9.65), old(), {"best_of": 20}, 1, NO, "more than 0.397, this being one of 20"),
    "best of twenty, better": (model(fid=9.6), old(), {"best_of": 20}, 1, YES, "more than 0.397"),
    "twenty registered": (model(fid=9.65), old(), {}, 20, NO, "more than 0.397, this being one of 20 contenders"),
    "ten and eleven": (model(fid=9.65), old(), {"best_of": 11}, 10, NO, "one of 20 contenders"),
    "one of two": (model(fid=9.73), old(), {}, 2, NO, "more than 0.277"),
    # Scores of unlike protocols.
    "other images": (model(fid=9, protocol=other(real_md5="b")), old(), {}, 1, NO, "real_md5 is 'a' there"),
    "other seed": (model(fid=9), old(protocol=other(seed=1)), {}, 1, NO, "seed is 1 there and 0 here"),
    "new field": (model(fid=9, protocol=other(z=0)), old(), {}, 1, NO, "z is None there and 0 here"),
    "lost field": (model(fid=9), old(protocol=other(z=0)), {}, 1, NO, "z is 0 there and None here"),
    "unlike says how": (model(fid=9), old(protocol=other(z=0)), {}, 1, NO, "--reference"),
    "unlike and above": (model(fid=9, protocol=other(z=0)), old(), {"max_fid": 8}, 1, NO, "above the bound 8"),
    # Bounds before the champion.
    "better, above the bound": (model(fid=31), old(fid=40), {"max_fid": 30}, 1, NO, "above the bound 30"),
    "better, not precise": (model(fid=9, precision=0.1), old(), {"min_precision": 0.5}, 1, NO, "precision 0.100"),
    # Precision and recall against the champion's.
    "precision held": (
        model(fid=9, precision=0.65), old(precision=0.7), {"max_precision_loss": 0.05}, 1, YES, "a gain of 1.000",
    ),
    "precision lost": (
        model(fid=9, precision=0.64), old(precision=0.7), {"max_precision_loss": 0.05}, 1, NO, "beyond the allowed",
    ),
    "precision gained": (
        model(fid=9, precision=0.9), old(precision=0.7), {"max_precision_loss": 0.0}, 1, YES, "a gain of 1.000",
    ),
    "recall lost": (model(fid=9, recall=0.2), old(recall=0.5), {"max_recall_loss": 0.1}, 1, NO, "recall 0.200 against"),
    "recall held": (model(fid=9, recall=0.5), old(recall=0.5), {"max_recall_loss": 0.0}, 1, YES, "a gain of 1.000"),
    "champion's recall unknown": (
        model(fid=9, recall=0.2), old(), {"max_recall_loss": 0.1}, 1, NO, "scores of the champion have no recall",
    ),
    "candidate's recall unknown": (
        model(fid=9), old(recall=0.2), {"max_recall_loss": 0.1}, 1, NO, "scores of the candidate have no recall",
    ),
    "recall is not asked": (model(fid=9, recall=0.1), old(recall=0.9), {}, 1, YES, "a gain of 1.000"),
    "the first failure is said": (
        model(fid=11, recall=0.2), old(recall=0.5), {"max_recall_loss": 0.1}, 1, NO, "a gain of -1.000",
    ),
    "no number": (model(fid=float("nan")), old(), {"max_fid": 30}, 1, NO, "above the bound"),
    "no number, no bound": (model(fid=float("nan")), old(), {}, 1, NO, "a gain of nan"),
}  # fmt: skip


@pytest.mark.parametrize("row", ROWS)
def test_the_gate(row):
    candidate, champion, rules, contenders, verdict, reason = ROWS[row]
    decision = decide(candidate, champion, Promote(**rules), contenders)
    assert (decision.verdict, reason in decision.reason) == (verdict, True), decision.reason
    assert decision.verdict == SAME or all(check.passed for check in decision.checks) == (verdict == YES)


def test_the_paired_error_is_that_of_the_difference_of_the_means():
    """For a statistic that is a mean, the influences are the values, and the truth is known by simulation."""
    random = np.random.default_rng(0)
    common = random.normal(size=(2000, 400))
    ours, theirs = common + random.normal(size=common.shape) / 2, common + random.normal(size=common.shape) / 2
    seen = np.std(ours.mean(axis=1) - theirs.mean(axis=1))
    said = np.mean([paired_standard_error(a, b) for a, b in zip(ours, theirs, strict=True)])
    assert said == pytest.approx(seen, rel=0.05)


@pytest.mark.parametrize(
    ("fid", "verdict", "moves"), [(11, "forced", True), (9, "promoted", True)], ids=["refused", "agreed"]
)
def test_force_is_recorded_only_where_the_gate_says_no(fid, verdict, moves):
    decision = forced(decide(model(fid=fid), old(), Promote()), "a customer waits")
    assert (decision.verdict, decision.moves) == (verdict, moves)
    assert decision.reason.startswith("a customer waits (the gate refused: ") == (verdict == "forced")


def test_the_table_names_roles_numbers_rules_and_the_reason():
    decision = decide(model(fid=9), old(), Promote(max_fid=30))
    lines = decision.table("clothes").splitlines()
    assert lines[1].split() == ["clothes", "1", "champion", "fid_classifier_10k", "10.000", "0.100"]
    assert lines[2].split() == ["clothes", "2", "candidate", "fid_classifier_10k", "9.000", "0.100"]
    assert lines[4].split()[:2] == ["max_fid", "yes"]
    assert lines[5].split()[:2] == ["better", "yes"]
    assert lines[-1].startswith("promoted: ")
    assert "contenders" not in lines[-1]


def test_the_table_of_one_model_is_one_line():
    unchanged, first = decide(model("1"), old(), Promote()), decide(model(), None, Promote())
    for decision, role in ((unchanged, "champion"), (first, "champion")):
        header, line, blank, reason = decision.table("clothes").splitlines()
        assert (header.split()[0], line.split()[2], blank) == ("model", role, "")
        assert reason == f"{decision.verdict}: {decision.reason}"
    refused = decide(model(fid=31), None, Promote(max_fid=30)).table("clothes").splitlines()
    assert refused[1].split()[2] == "candidate"


def test_the_decision_is_json():
    said = decide(model(fid=9), old(), Promote()).as_dict()
    assert said["champion"]["fid"] == 10
    assert said["checks"][0]["rule"] == "better"
    assert "influence" not in said["candidate"]

import pytest

from ganflow.config import Promote
from ganflow.promotion import Candidate, decide

PROTOCOL = {"extractor": "classifier", "real_md5": "a"}


def model(version="2", fid=10.0, se=0.1, protocol=None):
    return Candidate(version, "fid_classifier_10k", fid, se, protocol or PROTOCOL)


@pytest.mark.parametrize(
    ("candidate", "champion", "rules", "verdict", "reason"),
    [
        (model(), None, {}, "promoted", "no champion yet"),
        (model(fid=31), None, {"max_fid": 30}, "refused", "31.000 is above the bound 30"),
        (model(fid=29), None, {"max_fid": 30}, "promoted", "no champion yet"),
        (model("1"), model("1"), {}, "unchanged", "version 1 is the champion already"),
        (model("1", fid=31), model("1", fid=31), {"max_fid": 30}, "unchanged", "champion already"),
        (
            model(fid=9),
            model("1", fid=10),
            {},
            "promoted",
            "a gain of 1.000, where 95% confidence asks for more than 0.233",
        ),
        (model(fid=11), model("1", fid=10), {}, "refused", "a gain of -1.000"),
        (model(fid=10), model("1", fid=10), {}, "refused", "a gain of 0.000"),
        # The noise of the difference is sqrt(0.1² + 0.1²) = 0.1414; z(95 %) = 1.645 of it is 0.2326.
        (model(fid=9.76), model("1", fid=10), {}, "promoted", "a gain of 0.240"),
        (model(fid=9.77), model("1", fid=10), {}, "refused", "a gain of 0.230"),
        (model(fid=9.77), model("1", fid=10), {"confidence": 0.9}, "promoted", "more than 0.181"),
        (model(fid=9.5, se=0.4), model("1", fid=10), {}, "refused", "more than 0.678"),
        (model(fid=9.5), model("1", fid=10, se=0.4), {}, "refused", "more than 0.678"),
        (
            model(fid=9, protocol={**PROTOCOL, "real_md5": "b"}),
            model("1"),
            {},
            "refused",
            "real_md5 is 'a' there and 'b' here",
        ),
        (model(fid=9, protocol={**PROTOCOL, "seed": 0}), model("1"), {}, "refused", "seed is None there and 0 here"),
    ],
)
def test_the_gate(candidate, champion, rules, verdict, reason):
    decision = decide(candidate, champion, Promote(**rules))
    assert (decision.verdict, reason in decision.reason) == (verdict, True), decision.reason


def test_the_table_names_roles_numbers_and_the_reason():
    table = decide(model(fid=9), model("1"), Promote()).table("clothes")
    lines = table.splitlines()
    assert lines[1].split() == ["clothes", "1", "champion", "fid_classifier_10k", "10.000", "0.100"]
    assert lines[2].split() == ["clothes", "2", "candidate", "fid_classifier_10k", "9.000", "0.100"]
    assert lines[-1].startswith("promoted: ")
    assert decide(model("1"), model("1"), Promote()).table("clothes").splitlines()[1].split()[2] == "champion"

"""A record's text."""

import json

import pytest

from ganflow.ledger import LIMIT, Record, parse


@pytest.mark.parametrize(("words", "kept"), [("short", True), ("x" * LIMIT, False)])
def test_the_words_of_the_rules_go_before_the_record_is_too_long(words, kept):
    checks = [{"rule": "better", "passed": False, "said": words}]
    record = Record(1, "refused", "2026-11-23T00:00:00", "ann", "why", None, None, "2", None, "n", checks=checks)
    text = record.text()
    assert len(text) <= LIMIT
    [check] = json.loads(text)["checks"]
    assert (check["rule"], check["passed"], "said" in check) == ("better", False, kept)
    again = parse(text)
    assert again is not None
    assert again.reason == "why"

"""The verbs of versioned data: `ganflow data …`. Heavy imports wait until a verb needs them."""

import json
from pathlib import Path
from typing import Any

from ganflow.verbs import Arguments, add_verb


def add(verbs: Any) -> None:
    """Add the group to the command line."""
    help_text = "versioned data: pin it, fetch it, compare its versions"
    group = verbs.add_parser("data", help=help_text, description=help_text)
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)

    pin = add_verb(actions, "pin", "say where a set is, and which: what a pod fetches it by", run_pin, params=False)
    pin.add_argument("target", metavar="TARGET", type=Path, help="what `dvc add` versions, or its .dvc file")
    pin.add_argument("--out", type=Path, metavar="FILE", default=Path("run/pin.json"), help="(default: %(default)s)")

    fetch = add_verb(actions, "fetch", "fetch a pinned set into the cache, and say where", run_fetch, params=False)
    fetch.add_argument("pin", metavar="PIN", help="the file that `ganflow data pin` writes, or its text")

    diff = add_verb(actions, "diff", "what changed between two versions of a set, and how far it drifted", run_diff)
    diff.add_argument("before", metavar="REV_A", help="the earlier git revision")
    diff.add_argument("after", metavar="REV_B", help="the later one")
    diff.add_argument("path", metavar="PATH", type=Path, nargs="?", help="the set, where DVC tracks more than one")
    diff.add_argument("--json", action="store_true", help="print all of it as JSON")

    check = add_verb(actions, "check", "look for duplicates, leaks, blanks; hold the rules of data.checks", run_check)
    check.add_argument("prepared", metavar="PREPARED", type=Path)
    check.add_argument("--json", action="store_true", help="print all findings as JSON")

    merge = add_verb(actions, "merge", "put the pieces of `ganflow prepare --shard` together", run_merge, params=False)
    merge.add_argument("pieces", metavar="PIECE", nargs="+")
    merge.add_argument("--out", metavar="OUT", required=True)


def run_pin(arguments: Arguments) -> None:
    """`ganflow data pin`."""
    from ganflow.artifacts import write_text
    from ganflow.fetch import require_pushed
    from ganflow.pin import make_pin

    pin = make_pin(arguments.target)
    require_pushed(pin)
    write_text(arguments.out, pin.model_dump_json() + "\n")
    print(pin.model_dump_json())


def run_fetch(arguments: Arguments) -> None:
    """`ganflow data fetch`."""
    from ganflow.fetch import fetch
    from ganflow.pin import BEGINNING, read_pin
    from ganflow.progress import progress

    text = arguments.pin if arguments.pin.startswith(BEGINNING) else Path(arguments.pin).read_text()
    with progress("fetch", "bytes") as advance:
        print(fetch(read_pin(text), advance))


def run_diff(arguments: Arguments) -> None:
    """`ganflow data diff`."""
    from ganflow import drift
    from ganflow.config import load
    from ganflow.pin import only_set, pin_at

    params = load(arguments.params, arguments.overrides)
    target = arguments.path or only_set()
    before, after = pin_at(arguments.before, target), pin_at(arguments.after, target)
    found = drift.compare_versions(before, after, params.data, params.evaluate)
    print(json.dumps(found, indent=2) if arguments.json else drift.table(found))


def run_check(arguments: Arguments) -> None:
    """`ganflow data check`."""
    from ganflow.artifacts import Prepared
    from ganflow.config import load
    from ganflow.data.checks import check_prepared, enforce, table

    findings = check_prepared(Prepared(arguments.prepared))
    print(json.dumps(findings, indent=2) if arguments.json else table(findings))
    enforce(findings, load(arguments.params, arguments.overrides).data.checks, str(arguments.prepared))


def run_merge(arguments: Arguments) -> None:
    """`ganflow data merge`."""
    from ganflow import steps

    steps.merge(arguments.pieces, arguments.out)

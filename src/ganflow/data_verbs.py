"""The verbs of versioned data: `ganflow data …`. Heavy imports wait until a verb needs them."""

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

"""What every verb of the command line shares."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

Arguments = argparse.Namespace


def add_verb(
    verbs: Any, name: str, help_text: str, run: Callable[[Arguments], None], params: bool = True
) -> argparse.ArgumentParser:
    """Add a verb with the options that every verb has; plug-ins use it too."""
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=help_text, description=help_text)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    if params:
        parser.add_argument("--params", type=Path, default=Path("params.yaml"), metavar="FILE")
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="SECTION.KEY=VALUE",
            dest="overrides",
            help="override a parameter",
        )
    parser.set_defaults(run=run)
    return parser


def section(arguments: Arguments, name: str) -> str:
    """A section of the parameters as JSON text."""
    from ganflow.config import load
    from ganflow.section import Section

    value: Section = getattr(load(arguments.params, arguments.overrides), name)
    return value.json_text()

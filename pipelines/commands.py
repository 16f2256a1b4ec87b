"""`ganflow pipeline`: the plug-in of the command line. kfp is imported only when a verb runs."""

import json
from pathlib import Path
from typing import Any

from components import IMAGE
from ganflow.cli import Arguments, add_verb


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    help_text = "the same flow as a Kubeflow pipeline"
    parser = verbs.add_parser("pipeline", help=help_text, description=help_text)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    compiler = add_verb(actions, "compile", "write the pipeline for Kubeflow", run_compile, params=False)
    compiler.add_argument("--out", type=Path, default=Path("run/training.yaml"), metavar="FILE")
    compiler.add_argument("--image", default=IMAGE, metavar="REF", help="image of every step (default: %(default)s)")

    runner = add_verb(actions, "run", "run the whole pipeline on this machine", run_local)
    runner.add_argument("raw", metavar="RAW", type=Path, nargs="?", default=Path("data/fashion-mnist"))
    runner.add_argument("--out", type=Path, default=Path("run/kfp"), metavar="DIR")
    runner.add_argument("--json", action="store_true", help="print where the outputs are and the decision as JSON")


def run_compile(arguments: Arguments) -> None:
    """`ganflow pipeline compile`."""
    from ganflow.artifacts import write_text
    from pipelines.compile import pipeline_yaml

    write_text(arguments.out, pipeline_yaml(arguments.image))
    print(arguments.out)


def run_local(arguments: Arguments) -> None:
    """`ganflow pipeline run`."""
    from ganflow.artifacts import read_json
    from pipelines.local import run

    outputs = run(arguments.raw.resolve(), sections(arguments), arguments.out.resolve())
    decision = read_json(outputs["promote"])
    if arguments.json:
        print(json.dumps({"outputs": {step: str(path) for step, path in outputs.items()}, "decision": decision}))
        return
    print("\n".join(f"{step:<10} {path}" for step, path in outputs.items()))
    print(f"\n{decision['verdict']}: {decision['reason']}")
    print("A local run does not exercise the image, caching, secrets, volumes, time limits and resource limits.")


def sections(arguments: Arguments) -> dict[str, str]:
    """The parameters as the pipeline takes them: JSON text by section."""
    from ganflow.config import load

    params = load(arguments.params, arguments.overrides)
    return {
        "data": params.data.json_text(),
        "train": params.train.json_text(),
        "evaluate": params.evaluate.json_text(),
        "register": params.register_.json_text(),
        "promote": params.promote.json_text(),
    }

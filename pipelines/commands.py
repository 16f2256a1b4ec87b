"""`ganflow pipeline`: the plug-in of the command line. kfp is imported only when a verb runs."""

import json
import os
from pathlib import Path
from typing import Any

from components import IMAGE, SMALL_IMAGE
from ganflow.cli import Arguments, add_verb
from ganflow.errors import GanflowError
from pipelines import cluster_commands


def add(verbs: Any) -> None:
    """Add the verb to the command line."""
    help_text = "the same flow as a Kubeflow pipeline"
    parser = verbs.add_parser("pipeline", help=help_text, description=help_text)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    compiler = add_verb(actions, "compile", "write the pipeline for Kubeflow: the same bytes every time", run_compile)
    add_target(compiler)
    compiler.add_argument("--out", type=Path, metavar="FILE", help="(default: run/PIPELINE.yaml)")

    linter = add_verb(
        actions, "lint", "find what would go wrong on a cluster, in any compiled pipeline", run_lint, False
    )
    linter.add_argument("file", type=Path, metavar="FILE")
    linter.add_argument("--ignore", action="append", default=[], metavar="RULE", help="leave a rule out")
    linter.add_argument("--json", action="store_true", help="print the findings as JSON")

    differ = add_verb(actions, "diff", "which tasks a new version changes, and which will run again", run_diff, False)
    differ.add_argument("old", type=Path, metavar="OLD")
    differ.add_argument("new", type=Path, metavar="NEW")
    differ.add_argument("--json", action="store_true", help="print the changes as JSON")

    runner = add_verb(actions, "run", "run the whole pipeline on this machine", run_local)
    runner.add_argument("raw", metavar="RAW", nargs="?", default="data/fashion-mnist")
    runner.add_argument("--out", type=Path, default=Path("run/kfp"), metavar="DIR")
    add_pipeline(runner)
    runner.add_argument(
        "--runner", choices=("subprocess", "docker"), default="subprocess", help="a process or a container a task"
    )
    runner.add_argument("--json", action="store_true", help="print where the outputs are and the decision as JSON")

    cluster_commands.add(actions, add_target)


def add_pipeline(parser: Any) -> None:
    """The option of which pipeline."""
    parser.add_argument("--pipeline", choices=("training", "sweep"), default="training", help="(default: %(default)s)")


def add_target(parser: Any) -> None:
    """The options of what a pipeline is compiled for."""
    add_pipeline(parser)
    parser.add_argument("--profile", default="cpu", metavar="NAME", help="of resources.profiles (default: %(default)s)")
    parser.add_argument("--image", default=IMAGE, metavar="REF", help="image of the heavy tasks (default: %(default)s)")
    parser.add_argument(
        "--small-image", default=SMALL_IMAGE, metavar="REF", help="image of the light tasks (default: %(default)s)"
    )
    parser.add_argument("--allow-tags", action="store_true", help="take images that are not named by their digest")


def run_compile(arguments: Arguments) -> None:
    """`ganflow pipeline compile`."""
    from ganflow.artifacts import write_text

    out = arguments.out or Path("run") / f"{arguments.pipeline}.yaml"
    write_text(out, compiled(arguments))
    print(out)


def compiled(arguments: Arguments) -> str:
    """The pipeline that the options name, as YAML text."""
    from ganflow.config import load
    from pipelines.compile import require_digests, yaml_for

    if not arguments.allow_tags:
        require_digests(arguments.image, arguments.small_image)
    params = load(arguments.params, arguments.overrides)
    return yaml_for(arguments.pipeline, params, arguments.profile, arguments.image, arguments.small_image)


def run_lint(arguments: Arguments) -> None:
    """`ganflow pipeline lint`."""
    from ganflow.errors import ConfigError
    from pipelines.ir import read
    from pipelines.lint import PIPELINE_RULES, RULES, lint

    if unknown := sorted(set(arguments.ignore) - {*RULES, *PIPELINE_RULES}):
        raise ConfigError(f"there is no rule {unknown[0]}; there are {', '.join(RULES)}")
    findings = [finding for finding in lint(read(arguments.file)) if finding.rule not in arguments.ignore]
    if arguments.json:
        print(json.dumps([vars(finding) for finding in findings], indent=2))
    else:
        print("\n".join(map(str, findings)) or f"{arguments.file}: nothing to mend")
    if findings:
        raise GanflowError(
            f"{arguments.file} has {len(findings)} findings; mend them, or leave a rule out with --ignore"
        )


def run_diff(arguments: Arguments) -> None:
    """`ganflow pipeline diff`."""
    from ganflow.promotion import columns
    from pipelines.diff import diff
    from pipelines.ir import read

    changes = diff(read(arguments.old), read(arguments.new))
    if arguments.json:
        print(json.dumps([change.as_dict() for change in changes], indent=2))
        return
    rows = [(change.task, ", ".join(change.changed) or "same", _fate(change)) for change in changes]
    print("\n".join(columns([("task", "changes", "when it is run"), *rows])))


def _fate(change: Any) -> str:
    if change.changed == ("removed",):
        return "gone"
    return f"runs again: {change.again}" if change.again else "from the cache"


def run_local(arguments: Arguments) -> None:
    """`ganflow pipeline run`."""
    from ganflow.artifacts import read_json
    from ganflow.config import load
    from ganflow.pin import given_pin
    from pipelines import local, sweep, training
    from pipelines.submit import arguments as pipeline_arguments

    raw = given_pin(arguments.raw) or str(Path(arguments.raw).resolve())
    params = load(arguments.params, arguments.overrides)
    given = pipeline_arguments(raw, params, arguments.pipeline)
    pipeline = sweep.build(params.sweep.parallelism) if arguments.pipeline == "sweep" else training.build()
    root, docker = arguments.out.resolve(), arguments.runner == "docker"
    runner = local.docker_runner(raw, root, _environment()) if docker else local.subprocess_runner()
    outputs = local.run(pipeline, given, root, runner)
    decision = read_json(outputs["promote"])
    if arguments.json:
        print(json.dumps({"outputs": {step: str(path) for step, path in outputs.items()}, "decision": decision}))
        return
    print("\n".join(f"{step:<10} {path}" for step, path in outputs.items()))
    print(f"\n{decision['verdict']}: {decision['reason']}")
    print(f"A local run does not exercise {local.UNTRIED[arguments.runner]}.")


def _environment() -> dict[str, str]:
    """What the containers get of this environment: the servers, who asks, and the threads, which the bits depend on."""
    kept = ("MLFLOW_", "AWS_", "GANFLOW_", "OMP_NUM_THREADS")
    return {name: value for name, value in os.environ.items() if name.startswith(kept)}

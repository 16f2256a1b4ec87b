"""The six steps as every runner calls them: paths in, paths out, and a section of params.yaml as JSON text.

The command line, dvc, kfp.local and a cluster all come through here, so that they give the same numbers.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ganflow import config
from ganflow.artifacts import Evaluation, Model, Prepared, Reference, read_json, write_json
from ganflow.config import parse
from ganflow.errors import ArtifactError, ConfigError
from ganflow.progress import progress
from ganflow.promotion import Decision

SUMMARY = ("name", "train", "held_out", "resolution", "channels", "classes", "raw_md5", "images_md5", "labels_md5")
"""What a model remembers of its data."""


def prepare(raw: str, out: str, data: str) -> None:
    """Decode, check, resize, crop and split the raw images (section `data`)."""
    from ganflow.data import prepare

    inside, outside = sorted((Path(raw).resolve(), Path(out).resolve()), key=lambda path: len(path.parts), reverse=True)
    if inside.is_relative_to(outside):
        raise ConfigError(f"the output {out} and the raw images {raw} lie one in the other; name another output")
    with progress("prepare") as advance:
        prepare(Path(raw), Path(out), parse(config.Data, data, "data"), advance)


def reference(prepared: str, out: str, evaluate: str) -> None:
    """Get the feature extractor and measure the held-out images with it (section `evaluate`)."""
    from ganflow.evaluate import make_reference

    make_reference(Prepared(Path(prepared)), Path(out), parse(config.Evaluate, evaluate, "evaluate"))


def train(prepared: str, out: str, train: str, resume: bool = False) -> None:
    """Train (section `train`) under one MLflow run; SIGTERM and Ctrl-C save, and raise Interrupted."""
    from ganflow.images import open_prepared
    from ganflow.lineage import git_state, provenance
    from ganflow.tracking import training_run
    from ganflow.training import begin, conclude
    from ganflow.training import train as run_training

    settings, model = parse(config.Train, train, "train"), Model(Path(out))
    images, _, card = open_prepared(Prepared(Path(prepared)))
    data = {key: card[key] for key in SUMMARY}
    state = begin(data, settings, model, resume)
    with (
        training_run(settings.model_dump(mode="json"), data, git_state(), model.mlflow_run) as run,
        progress("train") as advance,
        stop_signals() as stop,
    ):
        made = run_training(state, images[: card["train"]], data, settings, model, log=run, advance=advance, stop=stop)
        write_json(model.provenance, provenance(made["generator_sha256"]))
        run.finished(model)
    conclude(model)


def evaluate(model: str, reference: str, out: str, evaluate: str) -> dict[str, object]:
    """Score the model against the reference (section `evaluate`); returns the content of scores.json."""
    from ganflow.evaluate import evaluate as score

    settings = parse(config.Evaluate, evaluate, "evaluate")
    return score(Model(Path(model)), Reference(Path(reference)), Path(out), settings)


def compare(real: str, generated: str, evaluate: str) -> dict[str, object]:
    """Score a folder of generated images against one of real ones (section `evaluate`); returns the scores."""
    from ganflow.compare import compare_folders

    return compare_folders(Path(real), Path(generated), parse(config.Evaluate, evaluate, "evaluate"))


def register(model: str, evaluation: str, out: str, register: str) -> None:
    """Register the scored model as `candidate` (section `register`); `out` is registration.json."""
    from ganflow import registry
    from ganflow.lineage import passport

    trained, scored = Model(Path(model)), Evaluation(Path(evaluation))
    card, scores = trained.read_card(), scored.read_card()
    if scores["generator_sha256"] != card["generator_sha256"]:
        raise ArtifactError(
            f"{evaluation} scores the generator {scores['generator_sha256'][:12]}…, and {model} holds "
            f"{card['generator_sha256'][:12]}…; run `ganflow evaluate` on this model first"
        )
    name = parse(config.Register, register, "register").name
    kept = read_json(trained.provenance) if trained.provenance.exists() else None
    write_json(Path(out), registry.register(trained, scored, passport(card, scores, kept), name))


def promote(registration: str, out: str, promote: str) -> Decision:
    """Let the gate (section `promote`) decide on a registered version; `out` is decision.json."""
    made = read_json(Path(registration))
    decision = promote_version(made["name"], made["version"], parse(config.Promote, promote, "promote"))
    write_json(Path(out), decision.as_dict())
    return decision


def promote_version(name: str, version: str, rules: config.Promote, dry_run: bool = False) -> Decision:
    """Decide, and move the alias `champion` if the gate says so and this is no dry run."""
    from ganflow import promotion, registry

    champion = registry.version_by_alias(name, registry.CHAMPION)
    decision = promotion.decide(
        registry.measured(name, version), registry.measured(name, champion) if champion else None, rules
    )
    if decision.verdict == "promoted" and not dry_run:
        registry.promote(name, version)
    return decision


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether SIGTERM or Ctrl-C came; a second Ctrl-C stops at once."""
    asked = threading.Event()

    def ask(number: int, frame: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""The six steps as every runner calls them: paths in, paths out, and a section of params.yaml as JSON text.

The command line, dvc, kfp.local and a cluster all come through here, so that they give the same numbers.
"""

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganflow import config
from ganflow.artifacts import Champion, Evaluation, Model, Prepared, Reference, read_json, write_json, write_text
from ganflow.config import parse
from ganflow.errors import ArtifactError, ConfigError, GanflowError, Interrupted, TrainingError
from ganflow.progress import progress
from ganflow.promotion import Decision

if TYPE_CHECKING:
    from ganflow.training import Sets

SUMMARY = ("name", "train", "held_out", "resolution", "channels", "classes", "raw_md5", "images_md5", "labels_md5")
"""What a model remembers of its data."""


def doctor(raw: str, images: str, accelerators: int, shm: str, nodes: int, out: str) -> None:
    """Look whether a pod has all that a run needs; `out` is the findings as Markdown.

    Raises GanflowError, with every cure, when something is missing.
    """
    from ganflow.doctor import Needs, examine, failures, markdown, table

    found = examine(Needs(raw, tuple(images.split()), accelerators, shm, nodes, cluster=True))
    print(table(found))
    write_text(Path(out), markdown(found))
    if failed := failures(found):
        raise GanflowError("; ".join(f"{finding.check}: {finding.said}" for finding in failed))


def prepare(raw: str, out: str, data: str, shard: str | None = None) -> None:
    """Decode, check, resize, crop and split the raw images (section `data`); `raw` is a path, or the text of a pin.

    With `shard`, such as 0/4, only that part of the images is decoded, into a piece for `merge`.
    """
    from ganflow.data import prepare, prepare_piece

    part = _part(shard)
    raw = _fetched(raw)
    inside, outside = sorted((Path(raw).resolve(), Path(out).resolve()), key=lambda path: len(path.parts), reverse=True)
    if inside.is_relative_to(outside):
        raise ConfigError(f"the output {out} and the raw images {raw} lie one in the other; name another output")
    settings = parse(config.Data, data, "data")
    with progress("prepare") as advance:
        if part:
            prepare_piece(Path(raw), Path(out), settings, *part, advance)
        else:
            prepare(Path(raw), Path(out), settings, advance)


def _part(shard: str | None) -> tuple[int, int] | None:
    """`i/n` as numbers."""
    if shard is None:
        return None
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    part, parts = (int(found[1]), int(found[2])) if found else (0, 0)
    if part >= parts:
        raise ConfigError(f"the shard {shard} is not i/n with i from 0 to n - 1; give for example 0/4")
    return part, parts


def merge(shards: list[str], out: str) -> None:
    """Put the pieces of a set together, which `prepare` made of its shards; the bytes are those of one `prepare`."""
    from ganflow.data import merge

    with progress("merge") as advance:
        merge([Path(shard) for shard in shards], Path(out), advance)


def _fetched(raw: str) -> str:
    """Where the raw images are; those of a pin are fetched."""
    from ganflow.fetch import fetch
    from ganflow.pin import BEGINNING, read_pin

    if not raw.startswith(BEGINNING):
        return raw
    with progress("fetch", "bytes") as advance:
        return str(fetch(read_pin(raw), advance))


def reference(prepared: str, out: str, evaluate: str) -> None:
    """Get the feature extractor and measure the held-out images with it (section `evaluate`)."""
    from ganflow.evaluate import make_reference

    make_reference(Prepared(Path(prepared)), Path(out), parse(config.Evaluate, evaluate, "evaluate"))


def train(prepared: str, reference: str | None, out: str, train: str, resume: bool = False) -> None:
    """Train (section `train`) under one MLflow run; SIGTERM and Ctrl-C save, and raise Interrupted.

    The best state by the online FID against `reference` is kept; with None the last one is. Under torchrun the
    leading process alone logs and writes; on other machines `out` gets the card alone, which says that the training
    came to its end. Nodes of a TrainJob raise TrainingError in place of Interrupted. GANFLOW_CHECKPOINTS names a store
    that keeps the checkpoints of a pod that may be preempted.
    """
    from ganflow.processes import NODES

    try:
        _train(prepared, reference, out, train, resume)
    except Interrupted as stopped:
        if NODES in os.environ:  # a process that ends well is done to torchrun, which waits minutes for the other nodes
            raise TrainingError(str(stopped)) from stopped
        raise


def _train(prepared: str, reference: str | None, out: str, train: str, resume: bool) -> None:
    from ganflow.lineage import git_state, provenance
    from ganflow.parallel import world
    from ganflow.processes import all_stopped, first_here
    from ganflow.tracking import training_run
    from ganflow.training import Judge, Mirror, begin, conclude
    from ganflow.training import train as run_training

    settings, model = parse(config.Train, train, "train"), Model(Path(out))
    sets, data = _sets(Prepared(Path(prepared)))
    with world() as peers, stop_signals() as stop:
        against = Reference(Path(reference)).read_card()["stats_sha256"] if reference else None
        mirror = Mirror.of(model) if peers.leads else None
        state = begin(data, sets, settings, model, resume, peers, against, mirror)
        if not peers.leads:
            with all_stopped(peers.told):
                card = run_training(state, sets, data, settings, model, world=peers, stop=stop)
            if first_here():  # which the leader is not on
                write_json(model.card, card)
            return
        judge = Judge(Reference(Path(reference)), settings) if reference and settings.online_fid_images else None
        with (
            all_stopped(peers.told),
            training_run(settings.model_dump(mode="json"), data, git_state(), model.mlflow_run) as run,
            closing(mirror) if mirror else nullcontext(),
            progress("train") as advance,
        ):
            run.data_card(Prepared(Path(prepared)))
            made = run_training(
                state,
                sets,
                data,
                settings,
                model,
                world=peers,
                judge=judge,
                log=run,
                mirror=mirror,
                advance=advance,
                stop=stop,
            )
            write_json(model.provenance, provenance(made["generator_sha256"]))
            run.finished(model)
        conclude(model)


def train_in_pod(prepared: str, reference: str, out: str, train_text: str) -> None:
    """`train --resume`, by one process for each GPU that the pod has. Raises Interrupted when SIGTERM came.

    A pod that was stopped has not done its work, so a stop is an error here, and Kubeflow tries again.
    """
    from ganflow.processes import processes
    from ganflow.processes import train as train_by_all

    if (count := processes()) == 1:
        train(prepared, reference, out, train_text, resume=True)
        return
    train_by_all(prepared, reference, out, train_text, count)
    if not Model(Path(out)).card.exists():
        raise Interrupted("stopped, with all saved; the next attempt goes on from there")


def train_node(prepared: str, reference: str, out: str, train_text: str) -> None:
    """As a node of the TrainJob that `launch` makes: fetch, `train --resume` with the other nodes, send the model.

    All but `train_text`, the section `train`, are keys of folders in the store that GANFLOW_CHECKPOINTS names.
    """
    from ganflow.node import train_node

    train_node(prepared, reference, out, train_text)


def launch(prepared: str, reference: str, out: str, train_text: str) -> None:
    """`train` on several nodes: a TrainJob of Kubeflow Trainer, followed to its end. `out` gets the model.

    Raises GanflowError when the job fails, and Interrupted when SIGTERM came: the job is deleted then.
    """
    from ganflow.launch import launch

    parse(config.Train, train_text, "train")
    with stop_signals() as stop:
        launch(Path(prepared), Path(reference), Path(out), train_text, stop)


def _sets(prepared: Prepared) -> tuple["Sets", dict[str, Any]]:
    """The two splits, and what a model remembers of them."""
    from ganflow.images import open_prepared
    from ganflow.training import Sets

    images, labels, card = open_prepared(prepared)
    split = card["train"]
    halves = (labels[:split], labels[split:]) if labels is not None else (None, None)
    return Sets(images[:split], halves[0], images[split:], halves[1]), {key: card[key] for key in SUMMARY}


def evaluate(model: str, reference: str, out: str, evaluate: str) -> dict[str, object] | None:
    """Score the model against the reference (section `evaluate`); returns the content of scores.json.

    Under torchrun the leading process alone scores, and the others return None.
    """
    from ganflow.evaluate import evaluate as score
    from ganflow.parallel import world

    settings = parse(config.Evaluate, evaluate, "evaluate")
    with world() as peers:
        return score(Model(Path(model)), Reference(Path(reference)), Path(out), settings, peers)


def evaluate_shown(
    model: str, reference: str, out: str, evaluate_text: str, report: str, samples: str, metrics: dict[str, float]
) -> None:
    """`evaluate`, and what Kubeflow's pages show of it: two HTML files, and the numbers put into `metrics`."""
    from ganflow.shown import show_evaluation

    scores = evaluate(model, reference, out, evaluate_text)
    if scores is None:  # not the leading process
        return
    metrics.update(show_evaluation(Evaluation(Path(out)), scores, Path(report), Path(samples)))


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
    made = registry.register(trained, scored, passport(card, scores, kept), name)
    write_json(Path(out), made)
    _note(
        {"ganflow.model_version": f"{made['name']}/{made['version']}", "ganflow.training_run": made["run_id"]}, scores
    )


def champion(evaluation: str, reference: str, out: str, register: str) -> None:
    """Measure the champion as the candidate of `evaluation` was measured, where that was otherwise, into `out`."""
    from ganflow import custody

    name = parse(config.Register, register, "register").name
    custody.measure_champion(name, Evaluation(Path(evaluation)), Reference(Path(reference)), Path(out))


def promote(registration: str, champion: str, out: str, promote: str) -> Decision:
    """Let the gate (section `promote`) decide on a registered version; `out` is decision.json.

    A champion of another protocol is taken as the task `champion` has measured it.
    """
    from ganflow import custody

    made, rules = read_json(Path(registration)), parse(config.Promote, promote, "promote")
    again = custody.by_task(made["name"], Champion(Path(champion)))
    decision = custody.promote(made["name"], made["version"], rules, again, force=None, dry_run=False)
    write_json(Path(out), decision.as_dict())
    return decision


def promote_shown(registration: str, champion: str, out: str, promote_text: str, gate: str) -> None:
    """`promote`, and the Markdown that Kubeflow's pages show of the decision; the run of the pipeline gets it too."""
    from ganflow.shown import decision_page

    name = read_json(Path(registration))["name"]
    decision = promote(registration, champion, out, promote_text)
    write_text(Path(gate), decision_page(name, decision))
    _note({"ganflow.verdict": decision.verdict, "ganflow.reason": decision.reason}, {})


def best(models: list[str], evaluations: list[str], model: str, evaluation: str, ranking: str) -> None:
    """Of the models and evaluations of a sweep, keep the best: copies of its folders, and a Markdown page of all."""
    from ganflow.sweep import keep_best

    keep_best(
        [Path(path) for path in models], [Path(path) for path in evaluations], Path(model), Path(evaluation),
        Path(ranking),
    )  # fmt: skip


def summary(run: str, state: str, error: str | None, out: str, overview: str) -> None:
    """The exit task of a Kubeflow run: how it ended, into `out` (JSON), `overview` (Markdown), MLflow and the webhook.

    `state` and `error` are Kubeflow's own words on the tasks. A server that is down is said in the summary, and fails
    nothing: this task reports on failures. TrainJobs that have lost their launchers are deleted.
    """
    from ganflow.summary import conclude

    if os.environ.get("POD_NAMESPACE"):  # set where launchers may have left a TrainJob
        from ganflow.launch import end_jobs

        end_jobs(run)
    conclude(run, state, error, Path(out), Path(overview))


def _note(tags: dict[str, str], scores: dict[str, Any]) -> None:
    """Write into the MLflow run of the pipeline run, where there is one."""
    from ganflow.pipeline_run import note
    from ganflow.shown import numbers
    from ganflow.tracking import mlflow_errors

    with mlflow_errors():
        note(tags, numbers(scores))


def promote_version(
    name: str,
    version: str,
    rules: config.Promote,
    *,
    out: Path | None = None,
    reference: Path | None = None,
    force: str | None = None,
    dry_run: bool = False,
) -> Decision:
    """Decide on a version, enter the decision in the ledger and move the aliases; a dry run only decides.

    A champion of another protocol is measured again when `reference` has the candidate's. `force` is the reason to
    promote against the gate. `out` takes the decision as JSON.
    """
    from ganflow import custody

    again = custody.by_reference(name, Reference(reference)) if reference else None
    decision = custody.promote(name, version, rules, again, force, dry_run)
    if out:
        write_json(out, decision.as_dict())
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

"""The command line: one verb a step, and one a user's job. Heavy imports wait until a verb needs them."""

import argparse
import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import urlsplit

from ganflow import __version__, custody_verbs, data_verbs, doctor_verb
from ganflow.errors import ConfigError, GanflowError, Interrupted, Refused
from ganflow.verbs import Arguments, add_verb, section

__all__ = ["Arguments", "add_verb", "build_parser", "main", "section"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code: 0 done, 1 failed, 2 bad usage or configuration, 3 the gate said no."""
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    arguments = build_parser().parse_args(argv)
    try:
        _check_address()
        arguments.run(arguments)
    except GanflowError as error:
        if arguments.debug and not isinstance(error, Interrupted | Refused):
            raise
        print(f"ganflow: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if arguments.debug or error.filename is None:
            raise
        print(
            f"ganflow: {error.filename}: {error.strerror}; check the path, its permissions and the disk",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("ganflow: interrupted", file=sys.stderr)
        return 130
    return 0


def _check_address() -> None:
    """Of the tracking server: MLflow takes host:port for a scheme, and then says that nothing is there."""
    address = os.environ.get("MLFLOW_TRACKING_URI", "")
    if re.match(r"[\w.-]+:\d+(/|$)", address):
        raise ConfigError(f"MLFLOW_TRACKING_URI is {address}, which has no scheme; set it to http://{address}")
    try:
        urlsplit(address)
    except ValueError as error:
        raise ConfigError(f"MLFLOW_TRACKING_URI is {address}, which is no URL ({error}); correct it") from error


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; the documentation's reference page is made from it."""
    parser = argparse.ArgumentParser(prog="ganflow", description="From versioned images to a promotable generator.")
    parser.add_argument("--version", action="version", version=f"ganflow {__version__}")
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)

    prepare = add_verb(verbs, "prepare", "decode, check, resize, crop and split raw images", run_prepare)
    prepare.add_argument("raw", metavar="RAW", help="a folder, an archive, an idx, npy or npz file, or a pin's text")
    prepare.add_argument("out", metavar="OUT")
    prepare.add_argument("--shard", metavar="I/N", help="only this part, into a piece for `ganflow data merge`")

    reference = add_verb(verbs, "reference", "measure the held-out real images once", run_reference)
    reference.add_argument("prepared", metavar="PREPARED")
    reference.add_argument("out", metavar="OUT")

    train = add_verb(verbs, "train", "adversarial training", run_train)
    train.add_argument("prepared", metavar="PREPARED")
    train.add_argument("out", metavar="OUT")
    train.add_argument("--reference", metavar="REFERENCE", help="keep the best state by an online FID against it")
    train.add_argument("--resume", action="store_true", help="go on from the last checkpoint of the same run, if any")

    node = add_verb(verbs, "train-node", "as a node of the TrainJob that the task launch makes", run_train_node, False)
    for key in ("prepared", "reference", "model"):
        node.add_argument(key, metavar=key.upper(), help="key of a folder in the store that GANFLOW_CHECKPOINTS names")
    node.add_argument("train", metavar="TRAIN", help="the section train of params.yaml, as JSON")

    evaluate = add_verb(
        verbs, "evaluate", "score a model against the reference, or images against images", run_evaluate
    )
    evaluate.add_argument("model", metavar="MODEL", nargs="?")
    evaluate.add_argument("reference", metavar="REFERENCE", nargs="?")
    evaluate.add_argument("out", metavar="OUT", nargs="?")
    evaluate.add_argument(
        "--images",
        nargs=2,
        metavar=("REAL", "GENERATED"),
        help="two plain folders of images instead, measured with Inception, or with evaluate.extractor=custom",
    )
    evaluate.add_argument("--json", action="store_true", help="print the scores as JSON")

    register = add_verb(verbs, "register", "put a scored model into the MLflow registry as candidate", run_register)
    register.add_argument("model", metavar="MODEL")
    register.add_argument("evaluation", metavar="EVALUATION")
    register.add_argument("out", metavar="OUT", help="registration.json")

    data_verbs.add(verbs)
    doctor_verb.add(verbs)
    custody_verbs.add(verbs)

    sample = add_verb(verbs, "sample", "draw images from a model", run_sample, params=False)
    sample.add_argument("model", metavar="MODEL", help="a model folder, or models:/NAME@champion")
    sample.add_argument("-n", type=int, default=64, metavar="COUNT", dest="count")
    sample.add_argument("--seed", type=int, default=0)
    sample.add_argument(
        "--out",
        type=Path,
        default=Path("grid.png"),
        help="a .png (a grid), a .npy (uint8 N,C,H,W), or a folder of PNGs",
    )

    for plugin in entry_points(group="ganflow.commands"):
        plugin.load()(verbs)
    return parser


def run_prepare(arguments: Arguments) -> None:
    """`ganflow prepare`."""
    from ganflow import steps

    steps.prepare(arguments.raw, arguments.out, section(arguments, "data"), arguments.shard)


def run_reference(arguments: Arguments) -> None:
    """`ganflow reference`."""
    from ganflow import steps

    steps.reference(arguments.prepared, arguments.out, section(arguments, "evaluate"))


def run_train(arguments: Arguments) -> None:
    """`ganflow train`."""
    from ganflow import steps

    settings = section(arguments, "train")
    steps.train(arguments.prepared, arguments.reference, arguments.out, settings, resume=arguments.resume)


def run_train_node(arguments: Arguments) -> None:
    """`ganflow train-node`."""
    from ganflow import steps

    steps.train_node(arguments.prepared, arguments.reference, arguments.model, arguments.train)


def run_evaluate(arguments: Arguments) -> None:
    """`ganflow evaluate`."""
    from ganflow import steps

    paths = [path for path in (arguments.model, arguments.reference, arguments.out) if path is not None]
    if len(paths) != (0 if arguments.images else 3):
        raise ConfigError(
            f"evaluate got {len(paths)} paths; give MODEL REFERENCE OUT, or --images REAL GENERATED and no other"
        )
    if arguments.images:
        real, generated = arguments.images
        scores: dict[str, object] | None = steps.compare(real, generated, _folder_settings(arguments))
    else:
        scores = steps.evaluate(arguments.model, arguments.reference, arguments.out, section(arguments, "evaluate"))
    if scores is None:  # not the leading process
        return
    if arguments.json:
        print(json.dumps(scores, indent=2, sort_keys=True))
    elif arguments.images:
        print("\n".join(f"{name}  {value:.6g}" for name, value in scores.items() if isinstance(value, float)))


def _folder_settings(arguments: Arguments) -> str:
    """The section `evaluate` for plain folders: Inception unless `--set` says else; no params.yaml is needed."""
    from ganflow.config import load

    arguments.overrides.insert(0, "evaluate.extractor=inception")
    if arguments.params.exists() or arguments.params != Path("params.yaml"):
        return section(arguments, "evaluate")
    with tempfile.TemporaryDirectory() as folder:
        defaults = Path(folder) / "params.yaml"
        defaults.write_text("{}")
        return load(defaults, arguments.overrides).evaluate.json_text()


def run_register(arguments: Arguments) -> None:
    """`ganflow register`."""
    from ganflow import steps

    steps.register(arguments.model, arguments.evaluation, arguments.out, section(arguments, "register_"))


def run_sample(arguments: Arguments) -> None:
    """`ganflow sample`."""
    import numpy as np

    from ganflow.artifacts import atomic
    from ganflow.images import grid, write_png
    from ganflow.sampling import sample_array

    if arguments.count < 1 or arguments.out.suffix not in (".png", ".npy", ""):
        raise ConfigError(
            f"cannot draw {arguments.count} images into {arguments.out}; give -n 1 or more, and a .png or .npy, or a "
            "folder"
        )
    if arguments.out.suffix == "":
        from ganflow.serving import write_folder

        write_folder(model_folder(arguments.model), arguments.out, arguments.seed, arguments.count)
        return
    images = sample_array(model_folder(arguments.model), arguments.seed, arguments.count)
    if arguments.out.suffix == ".png":
        write_png(arguments.out, grid(images))
    else:
        with atomic(arguments.out) as partial, partial.open("wb") as file:
            np.save(file, images)


def model_folder(model: str) -> Path:
    """The folder that MODEL names; one from the registry is downloaded."""
    if not model.startswith("models:/"):
        return Path(model)
    from ganflow import registry

    return registry.download(model)

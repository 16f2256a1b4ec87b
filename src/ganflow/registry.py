"""The MLflow model registry: versions, what was measured of them, and the alias `candidate`."""

import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, Schema, TensorSpec
from PIL import Image

import ganflow
from ganflow.artifacts import Evaluation, Model, Reference, fingerprint, read_json, write_json, write_text
from ganflow.errors import RegistryError
from ganflow.images import Images, grid
from ganflow.promotion import Candidate
from ganflow.report import with_passport
from ganflow.tracking import GENERATOR, mlflow_errors, run_of, scratch_run

CANDIDATE = "candidate"
DATA = "model"
"""Name of the data folder in a registered model: model.json, generator.safetensors, scores.json, passport.json, …"""
PROTOCOL = "ganflow.protocol_sha256"
PASSPORT = "passport.json"
REQUIREMENTS = ("mlflow", "numpy", "pillow", "safetensors", "torch")


def register(model: Model, evaluation: Evaluation, passport: dict[str, Any], name: str) -> dict[str, Any]:
    """Make a version of exactly what was scored, and point `candidate` at it; the same again is the same version.

    Returns what registration.json records. Raises ArtifactError when model and scores do not belong together, and
    RegistryError when MLflow refuses.
    """
    scores = evaluation.read_card()
    with mlflow_errors():
        version = _version_of(name, scores) or _new_version(name, model, evaluation, passport)
        MlflowClient().set_registered_model_alias(name, CANDIDATE, version.version)
    return {
        "name": name,
        "version": str(version.version),
        "run_id": version.run_id,
        "generator_sha256": scores["generator_sha256"],
        "protocol_sha256": scores["protocol_sha256"],
    }


def require_aliases() -> str:
    """Register a model of one version, move an alias to it, and delete it again; returns the registry's address.

    Raises RegistryError when the registry says no.
    """
    client, name = MlflowClient(), f"ganflow-doctor-{uuid.uuid4().hex[:8]}"
    with mlflow_errors(), scratch_run() as run:
        client.create_registered_model(name)
        try:
            version = client.create_model_version(name, run.artifact_uri, run.run_id, await_creation_for=None).version
            client.set_registered_model_alias(name, "doctor", version)
            client.delete_registered_model_alias(name, "doctor")
        finally:
            client.delete_registered_model(name)
    return str(mlflow.get_registry_uri())


def version_by_alias(name: str, alias: str) -> str | None:
    """The version that the alias points at, if there is one."""
    with mlflow_errors():
        try:
            return str(MlflowClient().get_model_version_by_alias(name, alias).version)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise


def measured(name: str, version: str, evaluation: Evaluation | None = None) -> Candidate:
    """A version with the scores it was registered with, or with those of a later evaluation of it.

    Raises RegistryError when the registry has no such version.
    """
    folder = download(f"models:/{name}/{version}")
    return _candidate(version, evaluation or Evaluation(folder), folder)


def measure_again(name: str, version: str, reference: Reference, protocol: dict[str, Any], out: Path) -> None:
    """Measure a version anew: against `reference`, with the count and the seed of `protocol`; `out` is an Evaluation.

    Raises RegistryError when the registry lacks the version, or what it needs.
    """
    from ganflow.config import Evaluate
    from ganflow.evaluate import evaluate

    folder = download(f"models:/{name}/{version}")
    if not Model(folder).history.exists():
        raise RegistryError(
            f"version {version} of {name} was registered without its history and cannot be measured again; register "
            "its model again, or `ganflow promote --force`"
        )
    evaluate(Model(folder), reference, out, Evaluate(count=protocol["generated_count"], seed=protocol["seed"]))


def resolve(uri: str) -> tuple[str, str]:
    """Name and version that models:/NAME@ALIAS or models:/NAME/N names. Raises RegistryError when there is none."""
    name, at, alias = uri.removeprefix("models:/").partition("@")
    if not at:
        name, _, number = name.rpartition("/")
        return name, number
    version = version_by_alias(name, alias)
    if version is None:
        raise RegistryError(f"{name} has no version with the alias {alias}; `ganflow history` lists what it has")
    return name, version


def facts(name: str, version: str) -> dict[str, Any]:
    """The run, experiment and aliases of a version, for people. Raises RegistryError when there is none."""
    with mlflow_errors():
        client = MlflowClient()
        found, model = client.get_model_version(name, version), client.get_registered_model(name)
        run = client.get_run(found.run_id)
    aliases = [alias for alias, number in model.aliases.items() if str(number) == version]
    return {"aliases": ",".join(aliases) or None, "run": found.run_id, "run_status": run.info.status}


def contenders(name: str, champion: str, protocol_sha256: str) -> int:
    """How many versions were registered since the champion and measured under this protocol; one at least."""
    with mlflow_errors():
        versions: list[ModelVersion] = list(MlflowClient().search_model_versions(f"name = '{name}'"))
    later = [version for version in versions if int(version.version) > int(champion)]
    return max(1, len([version for version in later if version.tags.get(PROTOCOL) == protocol_sha256]))


def require_samples(name: str, version: str) -> None:
    """Load the version as MLflow serves it, and compare what it draws with the samples that were recorded of it.

    Raises RegistryError when it does not load, or draws other images (more than one grey level apart: processors
    round differently).
    """
    from ganflow.evaluate import GRID

    uri = f"models:/{name}/{version}"
    evaluation = Evaluation(download(uri))
    try:
        sampler = mlflow.pyfunc.load_model(uri)
        drawn = sampler.predict({"seed": [evaluation.read_card()["protocol"]["seed"]], "count": [GRID]})
    except Exception as error:  # whatever the artifact store, the loader or the weights say
        raise RegistryError(f"version {version} of {name} does not load ({error}); name another with --to") from error
    if not _looks_like(drawn, evaluation.samples):
        raise RegistryError(
            f"version {version} of {name} draws other images than its recorded {evaluation.samples.name}; name another "
            "version with --to"
        )


def _looks_like(drawn: Images, samples: Path) -> bool:
    sheet = grid(drawn).squeeze().astype(np.int16)
    with Image.open(samples) as picture:
        recorded = np.asarray(picture, dtype=np.int16)
    scale = max(1, recorded.shape[0] // sheet.shape[0])
    recorded = recorded[::scale, ::scale]
    return bool(sheet.shape == recorded.shape and np.abs(sheet - recorded).max() <= 1)


def download(uri: str) -> Path:
    """A registered version's data folder, a `Model` with its scores; `uri` is models:/NAME@ALIAS or models:/NAME/N.

    Raises RegistryError when it is not there.
    """
    try:
        return Path(mlflow.artifacts.download_artifacts(f"{uri}/data/{DATA}"))
    except (MlflowException, OSError) as error:
        raise RegistryError(
            f"the registry at {mlflow.get_tracking_uri()} has no whole {uri}; check the name and MLFLOW_TRACKING_URI, "
            "or, where dvc.lock remembers a version that was lost, run `dvc repro --single-item --force register`"
        ) from error


def _candidate(version: str, evaluation: Evaluation, folder: Path) -> Candidate:
    scores = evaluation.read_card()
    score = scores["score"]
    return Candidate(
        version,
        score,
        scores[score],
        scores[f"{score}_se"],
        scores["protocol"],
        np.load(evaluation.influence),
        _metric(scores, "precision"),
        _metric(scores, "recall"),
        fingerprint(read_json(folder / PASSPORT)),
    )


def _metric(scores: dict[str, Any], metric: str) -> float | None:
    """A metric beside the FID, under its own name or under the FID's with the protocol behind it."""
    return scores.get(metric, scores.get(scores["score"].replace("fid", metric, 1)))


def _version_of(name: str, scores: dict[str, Any]) -> ModelVersion | None:
    """The version that already holds this model with these scores."""
    condition = f"name = '{name}' and tags.`{GENERATOR}` = '{scores['generator_sha256']}'"
    versions: list[ModelVersion] = list(MlflowClient().search_model_versions(condition))
    same = [version for version in versions if version.tags.get(PROTOCOL) == scores["protocol_sha256"]]
    return next((version for version in same if _is_whole(name, version)), None)


def _is_whole(name: str, version: ModelVersion) -> bool:
    """Whether the version's files are there: a registry can outlive its artifact store."""
    try:
        download(f"models:/{name}/{version.version}")
    except RegistryError:
        return False
    return True


def _new_version(name: str, model: Model, evaluation: Evaluation, passport: dict[str, Any]) -> ModelVersion:
    scores = evaluation.read_card()
    score = scores["score"]
    with mlflow.start_run(run_id=run_of(model)), tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / DATA
        data.mkdir()
        files = (model.card, model.generator, model.history, evaluation.card, evaluation.influence, evaluation.samples)
        for path in files:
            shutil.copy(path, data)
        write_text(data / evaluation.report.name, with_passport(evaluation.report.read_text(), passport))
        write_json(data / PASSPORT, passport)
        info = mlflow.pyfunc.log_model(
            name="model",
            loader_module="ganflow.serving",
            data_path=str(data),
            # The sampler's source travels along, so that the model loads where ganflow is not installed (ADR 2).
            code_paths=[str(Path(ganflow.__file__).parent)],
            signature=_signature(model.read_card()["architecture"]),
            input_example={"seed": [0], "count": [4]},
            pip_requirements=list(REQUIREMENTS),
        )
        card = model.read_card()
        data = MetaDataset(
            LocalArtifactDatasetSource(card["data"]["name"]), card["data"]["name"], card["data"]["raw_md5"]
        )
        numbers = {key: value for key, value in scores.items() if isinstance(value, int | float)}
        mlflow.log_metrics(numbers, dataset=data, model_id=info.model_id)
        mlflow.log_artifacts(str(evaluation.path), "evaluation")
        mlflow.log_text(with_passport(evaluation.report.read_text(), passport), "evaluation/report.html")
        mlflow.log_dict(passport, PASSPORT)
    tags = {
        GENERATOR: scores["generator_sha256"],
        PROTOCOL: scores["protocol_sha256"],
        score: f"{scores[score]:.4f} ± {scores[f'{score}_se']:.4f}",
    }
    version = mlflow.register_model(info.model_uri, name, tags=tags)
    description = model_card(card, scores, passport)
    MlflowClient().update_model_version(name, version.version, description)
    MlflowClient().update_registered_model(name, f"Generators of images like {card['data']['name']}, by ganflow.")
    return version


def model_card(card: dict[str, Any], scores: dict[str, Any], passport: dict[str, Any]) -> str:
    """What a version is, in Markdown: data, licence, scores, samples, limits (Mitchell et al. 2019)."""
    score, data = scores["score"], card["data"]
    git = (passport["trained"] or {}).get("git") or {}
    classes = f" of the classes {', '.join(data['classes'])}" if data.get("classes") else ""
    side, channels = data["resolution"], data["channels"]
    return f"""Draws {channels}-channel images of {side} x {side} pixels{classes}, from seeds.

**Data**: {data["name"]}, {data["train"]:,} training images, md5 `{data["raw_md5"]}`. **Licence**: what is drawn follows
the licence of that data; look at it before you publish images.

**Score**: {score} = {scores[score]:.4f} ± {scores[f"{score}_se"]:.4f}, lower is better; comparable only under protocol
`{scores["protocol_sha256"][:12]}`. **Samples**: `data/model/samples.png` among the version's files, and the report.

**Made by**: {card["architecture"]["name"]}, {card["images_seen"]:,} images, git `{git.get("revision", "unknown")}`,
parameters `{card["parameters_sha256"][:12]}`; `ganflow lineage` shows all.

**Limits**: it draws what resembles its training images and nothing else, repeats their biases, may repeat one of them,
and its score says nothing about single images."""


def _signature(architecture: dict[str, Any]) -> ModelSignature:
    side = architecture["resolution"]
    inputs = Schema([ColSpec("long", "seed"), ColSpec("long", "count")])
    outputs = Schema([TensorSpec(np.dtype("uint8"), (-1, architecture["channels"], side, side))])
    return ModelSignature(inputs=inputs, outputs=outputs)

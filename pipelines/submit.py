"""A run on the cluster, from the parameters here: the pipeline's version, the experiment, the run, each made once."""

import hashlib
import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import kfp_server_api

from ganflow.config import Params
from ganflow.sweep import promotion, trainings
from pipelines.client import Cluster, filtered


@dataclass(frozen=True)
class Order:
    """What is to be run."""

    pipeline: str
    """Name of the pipeline."""
    yaml: str
    arguments: dict[str, Any]
    experiment: str
    service_account: str

    @property
    def version(self) -> str:
        """Name of the pipeline's version: the same text has the same."""
        return f"{self.pipeline}-{hashlib.sha256(self.yaml.encode()).hexdigest()[:12]}"

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without the pipeline's text."""
        return {
            "pipeline": self.pipeline,
            "version": self.version,
            "arguments": self.arguments,
            "experiment": self.experiment,
            "service_account": self.service_account,
        }

    def fingerprint(self) -> str:
        """Of all of it."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()


def arguments(raw: str, params: Params, pipeline: str = "training") -> dict[str, Any]:
    """The parameters of the pipeline `training` or `sweep`: `raw` and JSON text by section."""
    given: dict[str, Any] = {
        "raw": raw,
        "data": params.data.json_text(),
        "evaluate": params.evaluate.json_text(),
        "register": params.register_.json_text(),
    }
    if pipeline == "sweep":
        return given | {"trainings": trainings(params), "promote": promotion(params)}
    return given | {"train": params.train.json_text(), "promote": params.promote.json_text()}


def data_pin(raw: str) -> str:
    """What the pods are given as raw images: the pin of a set that DVC keeps here, or `raw` itself, if it is a pin.

    Raises ConfigError where the data is in a folder, which no pod sees.
    """
    from ganflow.pin import given_pin, make_pin, read_pin, require_shared

    given = given_pin(raw)
    pin = read_pin(given) if given else make_pin(Path(raw))
    require_shared(pin)
    return pin.model_dump_json()


def submit(cluster: Cluster, order: Order) -> str:
    """Upload the version and make the experiment where they are missing, and the run; returns the run's id."""
    reference = version_reference(cluster, order)
    name = f"{order.version} {uuid.uuid4().hex[:6]}"
    run = kfp_server_api.V2beta1Run(
        display_name=name,
        experiment_id=experiment_id(cluster, order.experiment),
        pipeline_version_reference=reference,
        runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters=order.arguments),
        service_account=order.service_account,
    )

    def find() -> Any:
        return next(_named(cluster, "runs", "run_service_list_runs", "runs", name), None)

    made = cluster.tell("runs", "run_service_create_run", run, find=find)
    run_id: str = made.run_id
    return run_id


def version_reference(cluster: Cluster, order: Order) -> Any:
    """The pipeline's version on the cluster, uploaded if it is not there."""
    pipeline = _pipeline(cluster, order.pipeline)

    def find() -> Any:
        versions = cluster.pages(
            "pipelines", "pipeline_service_list_pipeline_versions", "pipeline_versions",
            pipeline_id=pipeline, filter=filtered("display_name", order.version),
        )  # fmt: skip
        return next((version for version in versions if version.display_name == order.version), None)

    version = find()
    if version is None:
        with TemporaryDirectory() as folder:
            package = Path(folder) / "pipeline.yaml"
            package.write_text(order.yaml)
            version = cluster.tell(
                "pipeline_uploads", "upload_pipeline_version", str(package),
                name=order.version, display_name=order.version, pipelineid=pipeline, find=find,
            )  # fmt: skip
    return kfp_server_api.V2beta1PipelineVersionReference(
        pipeline_id=pipeline, pipeline_version_id=version.pipeline_version_id
    )


def experiment_id(cluster: Cluster, name: str) -> str:
    """Id of the experiment, made if it is not there."""

    def find() -> Any:
        return next(_named(cluster, "experiments", "experiment_service_list_experiments", "experiments", name), None)

    wanted = kfp_server_api.V2beta1Experiment(display_name=name, namespace=cluster.namespace)
    experiment = find() or cluster.tell("experiments", "experiment_service_create_experiment", wanted, find=find)
    found: str = experiment.experiment_id
    return found


def _pipeline(cluster: Cluster, name: str) -> str:
    """Id of the pipeline, made if it is not there."""

    def find() -> Any:
        return next(_named(cluster, "pipelines", "pipeline_service_list_pipelines", "pipelines", name), None)

    wanted = kfp_server_api.V2beta1Pipeline(display_name=name, name=name, namespace=cluster.namespace)
    pipeline = find() or cluster.tell("pipelines", "pipeline_service_create_pipeline", wanted, find=find)
    found: str = pipeline.pipeline_id
    return found


def _named(cluster: Cluster, service: str, verb: str, items: str, name: str) -> Any:
    found = cluster.pages(service, verb, items, filter=filtered("display_name", name), **_namespace(cluster))
    return (item for item in found if item.display_name == name)


def _namespace(cluster: Cluster) -> dict[str, str]:
    return {"namespace": cluster.namespace} if cluster.namespace else {}

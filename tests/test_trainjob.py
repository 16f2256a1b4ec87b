"""The TrainJob as Kubernetes gets it: by the models of Kubeflow Trainer's API, and by the rules that pods must keep."""

import json
from typing import Any

import kubernetes_validate
import pytest
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

from ganflow.resources import CONFIG, MLFLOW, S3, Profile, Resources
from ganflow.trainjob import manifest, pod_patch, spec

PROFILES = Resources().profiles
IMAGE = f"example.org/ganflow@sha256:{'0' * 64}"
OWNER = {"apiVersion": "v1", "kind": "Pod", "name": "launch-1", "uid": "uid-1"}
RESERVED = {"PET_NNODES", "PET_NPROC_PER_NODE", "PET_NODE_RANK", "PET_MASTER_ADDR", "PET_MASTER_PORT"}
"""Kubeflow Trainer refuses a job that sets them."""


def body(profile: Profile, resources: Resources | None = None) -> dict[str, Any]:
    made = spec(resources or Resources(), profile, IMAGE)
    return manifest("ganflow-1", made, ["python"], {"KFP_RUN_ID": "run-1"}, OWNER)


def unknown(given: Any, kept: Any, path: str = "") -> list[str]:
    """What of a body the models do not know, and so leave out."""
    if isinstance(given, dict):
        return [name for key in given for name in unknown(given[key], (kept or {}).get(key), f"{path}.{key}")]
    if isinstance(given, list):
        return [name for i, one in enumerate(given) for name in unknown(one, (kept or [])[i], f"{path}[{i}]")]
    return [] if given == kept else [path]


@pytest.mark.parametrize("name", PROFILES)
def test_the_api_s_models_know_every_field(name: str) -> None:
    made = spec(Resources(image_pull_secrets=["pull"]), PROFILES[name].model_copy(update={"nodes": 3}), IMAGE)
    given = {"apiVersion": "v", "kind": "TrainJob", "metadata": {"name": "n"}, "spec": made}
    assert unknown(given, TrainerV1alpha1TrainJob.from_dict(given).to_dict()) == []


def test_the_models_refuse_nonsense() -> None:
    made = spec(Resources(), PROFILES["multi-node"], IMAGE)
    made["trainer"]["numNodes"] = "two"
    with pytest.raises(ValueError, match="numNodes"):
        manifest("ganflow-1", made, ["python"], {}, None)


def test_the_nodes_are_those_of_the_profile() -> None:
    trainer = body(PROFILES["multi-node"])["spec"]["trainer"]
    assert (trainer["numNodes"], trainer["numProcPerNode"], trainer["image"]) == (2, 4, IMAGE)
    assert trainer["resourcesPerNode"]["limits"] == {"cpu": "32", "memory": "128Gi", "nvidia.com/gpu": "4"}
    assert trainer["resourcesPerNode"]["requests"] == trainer["resourcesPerNode"]["limits"]
    alone = body(PROFILES["cpu"].model_copy(update={"nodes": 2}))["spec"]
    assert alone["trainer"]["numProcPerNode"] == 1
    assert "tolerations" not in pod_patch(alone)


def test_secrets_come_by_reference_and_nothing_is_set_that_trainer_sets() -> None:
    variables = {variable["name"]: variable for variable in body(PROFILES["multi-node"])["spec"]["trainer"]["env"]}
    assert {name for name, one in variables.items() if "secretKeyRef" in one.get("valueFrom", {})} == {*S3, *MLFLOW}
    assert {name for name, one in variables.items() if "configMapKeyRef" in one.get("valueFrom", {})} == set(CONFIG)
    assert variables["KFP_RUN_ID"]["value"] == "run-1"
    assert not RESERVED & set(variables)
    optional = {
        name for name, one in variables.items() if next(iter(one.get("valueFrom", {}).values()), one).get("optional")
    }
    assert optional == {*S3, *MLFLOW, *CONFIG[1:]}


def test_the_job_belongs_to_its_launcher_and_its_run() -> None:
    metadata = body(PROFILES["multi-node"])["metadata"]
    assert metadata["ownerReferences"] == [OWNER], "without blockOwnerDeletion, which asks for more rights"
    assert metadata["labels"]["pipeline/runid"] == "run-1"


@pytest.mark.parametrize("name", ["cpu", "multi-node"])
def test_the_pods_are_pods_and_satisfy_the_restricted_standard(name: str) -> None:
    """Put together as Kubeflow Trainer does: the runtime's container, the trainer's part, and the patch."""
    made = body(PROFILES[name], Resources(image_pull_secrets=["pull"]))["spec"]
    pod, trainer = json.loads(json.dumps(pod_patch(made))), made["trainer"]
    [container] = pod["containers"]
    container |= {key: trainer[key] for key in ("image", "command", "env")} | {"resources": trainer["resourcesPerNode"]}
    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "node"}, "spec": pod}
    kubernetes_validate.validate(whole, "1.36", strict=True)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert pod["terminationGracePeriodSeconds"] == Resources().grace_seconds
    [shm] = pod["volumes"]
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": PROFILES[name].shm}
    assert container["volumeMounts"] == [{"name": shm["name"], "mountPath": "/dev/shm"}]

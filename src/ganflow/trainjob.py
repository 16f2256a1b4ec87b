"""The TrainJob of Kubeflow Trainer v2 that trains on several nodes, as Kubernetes gets it.

What the profile says is compiled into the pipeline, as the environment variable GANFLOW_TRAINJOB of the launcher: the
job's whole `spec` but for its command and what is known only when it runs. The bodies are checked by the models of
the kubeflow SDK; its TrainerClient cannot make this job (docs/LOG.md).
"""

from typing import Any

from ganflow.resources import CONFIG, MLFLOW, S3, USER, Profile, Resources

TRAINJOB = "GANFLOW_TRAINJOB"
"""Environment variable: JSON of what `spec` returns."""
GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
RUNTIME = "torch-distributed"
"""The runtime that Kubeflow Trainer installs: it sets torchrun's environment variables in every node."""
NODE = "node"
"""The runtime's name of the nodes' job, and of their container."""
LABELS = {
    "app.kubernetes.io/part-of": "ganflow",
    "app.kubernetes.io/component": "training-node",  # the network policy knows the nodes by it
    "sidecar.istio.io/inject": "false",  # a mesh's proxy never ends, and knows nothing of NCCL
}
RUN = "pipeline/runid"
"""Label of a TrainJob: the Kubeflow run, as its pods have it."""
Tree = dict[str, Any]


def spec(resources: Resources, profile: Profile, image: str) -> Tree:
    """The job's spec: as many pods as the profile has nodes, each as the task train would be."""
    limits = {"cpu": profile.cpu, "memory": profile.memory}
    if profile.accelerator:
        limits[profile.accelerator] = str(profile.accelerators)
    return {
        "runtimeRef": {"apiGroup": GROUP, "kind": "ClusterTrainingRuntime", "name": RUNTIME},
        "activeDeadlineSeconds": profile.timeout_seconds,
        "trainer": {
            "image": image,
            "numNodes": profile.nodes,
            "numProcPerNode": max(1, profile.accelerators),
            "resourcesPerNode": {"requests": limits, "limits": limits},
            "env": _environment(resources, image),
        },
        "runtimePatches": [_patch(resources, profile)],
    }


def manifest(name: str, spec: Tree, command: list[str], environment: dict[str, str], owner: Tree | None) -> Tree:
    """The whole TrainJob: `spec` with the nodes' command and environment; it is deleted with `owner`.

    Raises ValueError where the API's models refuse it.
    """
    from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob

    variables = [{"name": key, "value": value} for key, value in sorted(environment.items())]
    trainer = spec["trainer"] | {"command": command, "env": [*spec["trainer"]["env"], *variables]}
    labels = {"app.kubernetes.io/part-of": "ganflow"}
    if "KFP_RUN_ID" in environment:
        labels[RUN] = environment["KFP_RUN_ID"]
    body = {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": {"name": name, "labels": labels} | ({"ownerReferences": [owner]} if owner else {}),
        "spec": spec | {"trainer": trainer},
    }
    checked: Tree = TrainerV1alpha1TrainJob.from_dict(body).to_dict()
    return checked


def pod_patch(spec: Tree) -> Tree:
    """What a spec says of the nodes' pods beside the trainer."""
    [patch] = spec["runtimePatches"]
    [nodes] = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    pod: Tree = nodes["template"]["spec"]["template"]["spec"]
    return pod


def _environment(resources: Resources, image: str) -> list[Tree]:
    """As the tasks have it: from the config map, the secrets, and as literals."""
    sources = [("configMapKeyRef", resources.config_map, key, key != CONFIG[0]) for key in CONFIG]
    for secret, keys in ((resources.s3_secret, S3), (resources.mlflow_secret, MLFLOW)):
        sources += [("secretKeyRef", secret, key, True) for key in keys]
    referred: list[Tree] = [
        {"name": key, "valueFrom": {kind: {"name": source, "key": key, "optional": optional}}}
        for kind, source, key, optional in sources
    ]
    literals = {"GANFLOW_IMAGE": image, "GANFLOW_GRACE_SECONDS": str(resources.grace_seconds)}
    return referred + [{"name": key, "value": value} for key, value in literals.items()]


def _patch(resources: Resources, profile: Profile) -> Tree:
    """What of the nodes' pods is not the trainer's: memory, placement, rights."""
    pod: Tree = {
        "serviceAccountName": resources.service_account,
        "terminationGracePeriodSeconds": resources.grace_seconds,
        "securityContext": {
            "runAsUser": USER, "runAsGroup": USER, "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": profile.shm}}],
        "containers": [
            {
                "name": NODE,
                "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    }  # fmt: skip
    if resources.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in resources.image_pull_secrets]
    if profile.accelerator:
        pod["tolerations"] = [toleration.model_dump(exclude_none=True) for toleration in profile.tolerations]
        pod["nodeSelector"] = dict(sorted(profile.node_selector.items()))
    nodes = {"name": NODE, "template": {"spec": {"template": {"metadata": {"labels": LABELS}, "spec": pod}}}}
    return {
        "manager": "ganflow.dev/launch",
        "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [nodes]}}},
    }

"""What the tasks of the Kubeflow pipeline get on a cluster: the section `resources` of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ganflow.section import Positive, Section

Cpu = Annotated[str, Field(pattern=r"^\d+m$|^\d+(\.\d+)?$")]
"""CPUs as Kubernetes writes them: 4 or 500m."""
Memory = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(Ki|Mi|Gi|Ti|k|M|G|T)$")]
"""Bytes as Kubernetes writes them: 16Gi."""
Seconds = Annotated[int, Field(gt=0, le=2147483647)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
"""Of a Kubernetes object."""
MAX_SHARDS = 8
"""The component merge has this many inputs."""
CONFIG = (
    "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "AWS_ENDPOINT_URL", "MLFLOW_S3_ENDPOINT_URL",
    "AWS_DEFAULT_REGION", "GANFLOW_CHECKPOINTS", "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT",
)  # fmt: skip
"""Keys of the config map; MLFLOW_TRACKING_URI must be there."""
S3 = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
MLFLOW = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
USER = 1000
"""Of the images."""

UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def bytes_of(memory: str) -> int:
    """Bytes of what Kubernetes writes as 16Gi."""
    number = memory.rstrip("KMGTik")
    return int(float(number) * UNITS[memory.removeprefix(number)])


class Toleration(Section):
    """A taint that pods may stand on; Kubernetes' own words."""

    key: str
    operator: Literal["Exists", "Equal"] = "Exists"
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class Profile(Section):
    """What the heavy tasks get: reference, train and evaluate; prepare, which stands on any node, has its own size."""

    accelerator: str | None = None
    """Resource name of the accelerator, nvidia.com/gpu for example; null: none."""
    accelerators: Annotated[int, Field(ge=0)] = 0
    """Of one training pod, which runs a process for each; reference and evaluate get one."""
    nodes: Positive = 1
    """More than one: the training is a TrainJob of this many pods, which the task launch starts and follows."""
    cpu: Cpu = "4"
    """CPUs of a pod, requested and at most."""
    memory: Memory = "16Gi"
    """Memory of a pod, requested and at most; what lies in `shm` counts."""
    prepare_cpu: Cpu | None = None
    """CPUs of a pod that prepares images; null: as `cpu`."""
    prepare_memory: Memory | None = None
    """Memory of a pod that prepares images; null: as `memory`."""
    shm: Memory = "2Gi"
    """Size of /dev/shm, in memory: data loaders and NCCL need more than the 64 MiB of a container."""
    tolerations: list[Toleration] = []
    """Of the pods that have accelerators."""
    node_selector: dict[str, str] = {}
    """Labels of the nodes for the pods that have accelerators."""
    shards: Annotated[int, Field(gt=0, le=MAX_SHARDS)] = 1
    """How many tasks prepare the images side by side."""
    timeout_seconds: Seconds = 86400
    """A pod that runs longer is ended, and tried again."""

    @model_validator(mode="after")
    def _accelerators_have_a_name(self) -> "Profile":
        if (self.accelerator is None) != (self.accelerators == 0):
            raise ValueError("accelerator and accelerators go together; set both, or null and 0")
        return self


_GPU = Profile(
    accelerator="nvidia.com/gpu",
    accelerators=1,
    cpu="8",
    memory="32Gi",
    prepare_cpu="4",
    prepare_memory="16Gi",
    shm="8Gi",
    tolerations=[Toleration(key="nvidia.com/gpu", effect="NoSchedule")],
)
_WIDE = {"accelerators": 4, "cpu": "32", "memory": "128Gi", "shm": "32Gi", "shards": 4}


class Resources(Section):
    """What the tasks of the Kubeflow pipeline get on a cluster; it is compiled in, and changes no cache key."""

    doctor: bool = False
    """Whether a first task looks if the pods have what a run needs, as `ganflow doctor --cluster` does."""
    service_account: Name = "ganflow"
    """The pods run as it."""
    image_pull_secrets: list[Name] = []
    """Secrets with which the images are pulled."""
    s3_secret: Name = "ganflow-s3"
    """Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."""
    mlflow_secret: Name = "ganflow-mlflow"
    """Secret with MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."""
    webhook_secret: Name = "ganflow-webhook"
    """Secret with GANFLOW_WEBHOOK, the URL that the summary of a run is posted to; a pod starts without it."""
    config_map: Name = "ganflow"
    """Config map with MLFLOW_TRACKING_URI, AWS_ENDPOINT_URL and the rest of what is no secret."""
    light_cpu: Cpu = "1"
    """CPUs of launch, best, register, promote and summary."""
    light_memory: Memory = "2Gi"
    """Memory of launch, best, register, promote and summary."""
    light_timeout_seconds: Seconds = 3600
    """Time limit of best, register, promote and summary; launch has it on top of the time of its training."""
    retries: Annotated[int, Field(ge=0)] = 3
    """How often a task whose pod failed, or was preempted, is tried again."""
    backoff_seconds: Seconds = 60
    """Wait before the first retry."""
    backoff_factor: Positive = 2
    """Each further wait is this many times longer; Argo fails at a fraction."""
    grace_seconds: Seconds = 30
    """From SIGTERM to SIGKILL. KFP 2.17 cannot set it on its own pods, where it is 30; a TrainJob's pods get it."""
    deadline_seconds: Seconds = 259200
    """A run that takes longer is ended."""
    ttl_seconds: Seconds = 604800
    """The pods of a run that ended are kept for so long."""
    profiles: dict[Name, Profile] = {
        "cpu": Profile(),
        "gpu": _GPU,
        "multi-gpu": _GPU.model_copy(update=_WIDE),
        "multi-node": _GPU.model_copy(update=_WIDE | {"nodes": 2}),
    }
    """By name; `ganflow pipeline compile --profile NAME` takes one."""

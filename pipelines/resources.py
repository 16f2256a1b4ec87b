"""What a task gets on the cluster, from the section `resources` and one of its profiles.

All of it is compiled in as literals: a pipeline parameter inside an exit handler becomes a dangling reference.
"""

import json
from dataclasses import dataclass
from typing import Any

from kfp import dsl, kubernetes

from ganflow import trainjob
from ganflow.errors import ConfigError
from ganflow.resources import CONFIG, MLFLOW, S3, USER, Profile, Resources

LONGEST_SECONDS = 2**31 - 1
"""What Kubernetes takes as a time limit."""


@dataclass(frozen=True)
class Target:
    """Where a pipeline is to run."""

    resources: Resources
    profile: Profile
    image: str
    small_image: str

    def prepare(self, task: Any) -> None:
        """A task that only reads and writes images: it stands on any node, not on those of the accelerators."""
        profile = self.profile
        task.set_container_image(self.image)
        _size(task, profile.prepare_cpu or profile.cpu, profile.prepare_memory or profile.memory)
        kubernetes.set_timeout(task, profile.timeout_seconds)
        self._common(task, self.image)

    def heavy(self, task: Any, accelerators: int) -> None:
        """A task on models, with this many accelerators if the profile has any."""
        profile = self.profile
        task.set_container_image(self.image)
        _size(task, profile.cpu, profile.memory)
        kubernetes.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=profile.shm)
        kubernetes.set_timeout(task, profile.timeout_seconds)
        if profile.accelerator and accelerators:
            task.set_accelerator_type(profile.accelerator).set_accelerator_limit(accelerators)
            for toleration in profile.tolerations:
                kubernetes.add_toleration(task, **toleration.model_dump(exclude_none=True))
            for label, value in sorted(profile.node_selector.items()):
                kubernetes.add_node_selector(task, label, value)
        self._common(task, self.image)

    def light(self, task: Any, retry: bool = True) -> None:
        """A task that only talks to servers."""
        task.set_container_image(self.small_image)
        _size(task, self.resources.light_cpu, self.resources.light_memory)
        kubernetes.set_timeout(task, self.resources.light_timeout_seconds)
        self._common(task, self.small_image, retry)

    def launcher(self, task: Any) -> None:
        """The task that makes a TrainJob of the profile's nodes, and follows it; it takes no accelerator itself."""
        resources, profile = self.resources, self.profile
        self.light(task)
        kubernetes.set_timeout(task, min(profile.timeout_seconds + resources.light_timeout_seconds, LONGEST_SECONDS))
        job = trainjob.spec(resources, profile, self.image)
        task.set_env_variable(trainjob.TRAINJOB, json.dumps(job, sort_keys=True))
        self.known_to_itself(task)

    def known_to_itself(self, task: Any) -> None:
        """A task whose pod knows its name and where it is, for what it asks of Kubernetes."""
        for variable, field in (("POD_NAME", "name"), ("POD_UID", "uid"), ("POD_NAMESPACE", "namespace")):
            kubernetes.use_field_path_as_env(task, variable, f"metadata.{field}")

    def exit(self, task: Any) -> None:
        """The exit task: KFP takes no retry from it."""
        self.light(task, retry=False)
        kubernetes.use_secret_as_env(
            task, self.resources.webhook_secret, {"GANFLOW_WEBHOOK": "GANFLOW_WEBHOOK"}, optional=True
        )
        # Where Kubeflow has many users, its PodDefault of this label mounts the token that the API asks for.
        kubernetes.add_pod_label(task, "access-ml-pipeline", "true")

    def config(self) -> Any:
        """Of the run: its time limit, and how long its pods are kept."""
        return dsl.PipelineConfig(
            ttl_seconds_after_finished=self.resources.ttl_seconds,
            active_deadline_seconds=self.resources.deadline_seconds,
        )

    def _common(self, task: Any, image: str, retry: bool = True) -> None:
        resources = self.resources
        if retry:
            # Argo counts the window from the first attempt's start, and ends a retry that runs beyond it; kfp's
            # default of an hour would end every retried training.
            task.set_retry(
                resources.retries,
                f"{resources.backoff_seconds}s",
                resources.backoff_factor,
                f"{resources.deadline_seconds}s",
            )
        for secret, keys in ((resources.s3_secret, S3), (resources.mlflow_secret, MLFLOW)):
            kubernetes.use_secret_as_env(task, secret, dict(zip(keys, keys, strict=True)), optional=True)
        required, *rest = CONFIG
        kubernetes.use_config_map_as_env(task, resources.config_map, {required: required})
        kubernetes.use_config_map_as_env(task, resources.config_map, dict(zip(rest, rest, strict=True)), optional=True)
        # The run's id reaches the code this way, not as a parameter, which would be part of the cache key.
        kubernetes.use_field_path_as_env(task, "KFP_RUN_ID", "metadata.labels['pipeline/runid']")
        task.set_env_variable("GANFLOW_IMAGE", image)
        task.set_env_variable("GANFLOW_GRACE_SECONDS", str(resources.grace_seconds))
        if resources.image_pull_secrets:
            kubernetes.set_image_pull_secrets(task, resources.image_pull_secrets)
        kubernetes.set_image_pull_policy(task, "IfNotPresent")
        kubernetes.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)


def target(resources: Resources, name: str, image: str, small_image: str) -> Target:
    """The profile `name` and the images. Raises ConfigError when params.yaml has no such profile."""
    if name not in resources.profiles:
        raise ConfigError(f"there is no profile {name}; resources.profiles has {', '.join(sorted(resources.profiles))}")
    return Target(resources, resources.profiles[name], image, small_image)


def _size(task: Any, cpu: str, memory: str) -> None:
    task.set_cpu_request(cpu).set_cpu_limit(cpu).set_memory_request(memory).set_memory_limit(memory)

"""TrainJobs and the pods of their nodes: the Kubernetes API with patience, and its errors in one sentence.

The configuration is the pod's own, or else the kubeconfig's. A question is asked again while the API server does not
answer, is busy or has an inner error; the next 401 or 403 is final.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import urllib3
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from ganflow.errors import ConfigError, GanflowError
from ganflow.trainjob import GROUP, NODE, PLURAL, RUN, VERSION

NAMESPACE = "POD_NAMESPACE"
"""Environment variable: where the TrainJobs are made; without it the kubeconfig's."""
TIMEOUT_SECONDS = (5, 15)
"""To connect, and between two bytes of an answer."""
QUIET_SECONDS = 300
"""A log that says nothing for so long is asked for anew: the connection may be dead."""
FIRST_WAIT_SECONDS, MAX_WAIT_SECONDS = 0.5, 15.0
BUSY = (408, 425, 429)
ENDS = ("Complete", "Failed")


@dataclass(frozen=True)
class Job:
    """A TrainJob as it stands."""

    end: str | None
    """Complete or Failed; None while it goes on."""
    why: str
    """The reason and the message of its end."""
    leaving: bool
    """Whether it is being deleted."""


class Cluster:
    """The API server, for one namespace. `patience_seconds`: for how long a question is asked again.

    `pause` waits so many seconds between two questions; it may raise, to end the waiting.
    """

    def __init__(self, patience_seconds: float = 600, pause: Callable[[float], None] = time.sleep) -> None:
        self.patience_seconds, self.pause = patience_seconds, pause
        self.namespace, settings = _configuration()
        settings.retries = False
        api = client.ApiClient(settings)
        self.jobs, self.core = client.CustomObjectsApi(api), client.CoreV1Api(api)
        self.rights = client.AuthorizationV1Api(api)

    @property
    def _place(self) -> dict[str, str]:
        return {"group": GROUP, "version": VERSION, "namespace": self.namespace, "plural": PLURAL}

    def create(self, body: dict[str, Any]) -> None:
        """Make a TrainJob; one of that name that is there already stays as it is."""
        with contextlib.suppress(_There):
            self._ask("create", lambda: self.jobs.create_namespaced_custom_object(**self._place, body=body, **_LIMIT))

    def get(self, name: str) -> Job | None:
        """The TrainJob, None where there is none."""
        try:
            found = self._ask("get", lambda: self.jobs.get_namespaced_custom_object(**self._place, name=name, **_LIMIT))
        except _Missing:
            return None
        return _job(found)

    def going_on(self, run: str) -> list[str]:
        """Names of the TrainJobs of a Kubeflow run that have no end."""
        found = self._ask(
            "list",
            lambda: self.jobs.list_namespaced_custom_object(**self._place, label_selector=f"{RUN}={run}", **_LIMIT),
        )
        return [item["metadata"]["name"] for item in found["items"] if _job(item).end is None]

    def delete(self, name: str) -> None:
        """Ask for the TrainJob's end, and that of all that belongs to it; it is gone when its pods are."""
        with contextlib.suppress(_Missing):
            self._ask(
                "delete",
                lambda: self.jobs.delete_namespaced_custom_object(
                    **self._place, name=name, propagation_policy="Foreground", **_LIMIT
                ),
            )

    def require_trainjobs(self) -> None:
        """Raise GanflowError where TrainJobs are unknown, or may not be listed."""
        try:
            self._ask("list", lambda: self.jobs.list_namespaced_custom_object(**self._place, limit=1, **_LIMIT))
        except _Missing as error:
            raise GanflowError(
                "Kubernetes knows no TrainJobs; install Kubeflow Trainer 2.3 (docs/cluster.md, Several nodes)"
            ) from error

    def may(self, verb: str, resource: str, group: str) -> bool:
        """Whether whoever asks has this right in the namespace; a part of a resource is named as pods/log."""
        name, _, part = resource.partition("/")
        wanted = client.V1ResourceAttributes(
            namespace=self.namespace, verb=verb, group=group, resource=name, subresource=part or None
        )
        review = client.V1SelfSubjectAccessReview(spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=wanted))
        answer = self._ask("ask for rights on", lambda: self.rights.create_self_subject_access_review(review, **_LIMIT))
        return bool(answer.status.allowed)

    def nodes(self, name: str) -> list[Any]:
        """The pods of a TrainJob's nodes, the newest of each rank, by rank; of those that were begun."""
        labels = f"jobset.sigs.k8s.io/jobset-name={name},jobset.sigs.k8s.io/replicatedjob-name={NODE}"
        found = self._ask(
            "list the pods of",
            lambda: self.core.list_namespaced_pod(self.namespace, label_selector=labels, **_LIMIT),
        )
        begun = [pod for pod in found.items if pod.status.phase != "Pending"]
        by_rank = {rank_of(pod): pod for pod in sorted(begun, key=lambda pod: pod.metadata.creation_timestamp)}
        return [by_rank[rank] for rank in sorted(by_rank)]

    def log(self, pod: str, follow: bool) -> Iterator[str]:
        """Each line of a node's log with its time before it; with `follow` until the container ends.

        Raises ApiException or urllib3's HTTPError where the connection breaks: asked again, it begins anew.
        """
        answer = self.core.read_namespaced_pod_log(
            pod, self.namespace, container=NODE, follow=follow, timestamps=True, _preload_content=False,
            _request_timeout=(TIMEOUT_SECONDS[0], QUIET_SECONDS),
        )  # fmt: skip
        rest = b""
        try:
            for piece in answer.stream(decode_content=True):
                *lines, rest = (rest + piece).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
        finally:
            answer.close()
        if rest and not follow:
            yield rest.decode(errors="replace")

    def _ask(self, verb: str, call: Callable[[], Any]) -> Any:
        end, wait = time.monotonic() + self.patience_seconds, FIRST_WAIT_SECONDS
        while True:
            try:
                return call()
            except ApiException as error:
                if error.status < 500 and error.status not in BUSY:
                    raise self._refusal(verb, error) from error
                trouble = f"{error.status} {_message(error)}"
            except urllib3.exceptions.HTTPError as error:
                trouble = str(error)
            if time.monotonic() + wait > end:
                raise GanflowError(
                    f"the Kubernetes API could not {verb} TrainJobs for {self.patience_seconds:g} s ({trouble}); look "
                    "at the API server, and try again"
                )
            self.pause(wait)
            wait = min(2 * wait, MAX_WAIT_SECONDS)

    def _refusal(self, verb: str, error: ApiException) -> GanflowError:
        said = _message(error)
        if error.status == 404:
            return _Missing(f"Kubernetes knows no such TrainJob, or no TrainJobs at all ({said}); docs/cluster.md")
        if error.status == 409:
            return _There(said)
        if error.status in (401, 403):
            return GanflowError(
                f"Kubernetes does not let us {verb} TrainJobs in {self.namespace} ({said}); give the service account "
                "the role of deploy/base/runs/trainer.yaml"
            )
        return GanflowError(f"Kubernetes refuses to {verb} the TrainJob ({said}); mend resources in params.yaml")


class _Missing(GanflowError):
    """There is no such thing."""


class _There(GanflowError):
    """It is there already."""


_LIMIT: dict[str, Any] = {"_request_timeout": TIMEOUT_SECONDS}


def _job(found: dict[str, Any]) -> Job:
    leaving = "deletionTimestamp" in found["metadata"]
    for condition in (found.get("status") or {}).get("conditions") or []:
        if condition["type"] in ENDS and condition["status"] == "True":
            why = ": ".join(word for word in (condition.get("reason"), condition.get("message")) if word)
            return Job(condition["type"], why, leaving)
    return Job(None, "", leaving)


def rank_of(pod: Any) -> int:
    """Which node of its job a pod is."""
    return int(pod.metadata.labels["batch.kubernetes.io/job-completion-index"])


def _configuration() -> tuple[str, Any]:
    """The namespace, and the client's settings."""
    settings = client.Configuration()
    try:
        config.load_incluster_config(settings)
        return os.environ.get(NAMESPACE, "default"), settings
    except config.ConfigException:
        pass
    file = os.environ.get("KUBECONFIG")  # the client reads it once, when it is imported
    try:
        config.load_kube_config(file, client_configuration=settings)
        context = config.list_kube_config_contexts(file)[1]["context"]
    except (config.ConfigException, OSError) as error:
        raise ConfigError(f"no Kubernetes API is known here ({error}); set KUBECONFIG, or run in a pod") from error
    return os.environ.get(NAMESPACE) or context.get("namespace", "default"), settings


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)

"""An HTTP server that answers as Kubernetes' API does for TrainJobs, their pods and logs, and runs the nodes itself.

It is Kubernetes with Kubeflow Trainer in so far as a launcher sees them: the bodies are checked by the SDK's models;
each node is a process group of this machine with the environment that the runtime torch-distributed gives; one that
fails is started again in its pod; a job that is deleted ends with SIGTERM, and is gone when its nodes are.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import kfp_api
import yaml
from kubeflow_trainer_api.models import TrainerV1alpha1TrainJob
from servers import free_port

TRAINJOBS = r"/apis/trainer.kubeflow.org/v1alpha1/namespaces/runs/trainjobs"


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Pod:
    """A node: its process group, started again when it fails, and its log."""

    def __init__(self, name: str, rank: int, command: list[str], environment: dict[str, str]) -> None:
        self.name, self.rank, self.command, self.environment = name, rank, command, environment
        self.born, self.log, self.codes = now(), list[str](), list[int]()
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        self.reader = threading.Thread(target=self._read, args=(self.process,), daemon=True)
        self.reader.start()

    def _read(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout
        with process.stdout:
            for line in process.stdout:
                self.log.append(f"{now()} {line.decode().rstrip()}")
        process.wait()

    def signal(self, number: int) -> None:
        """To the container's first process; SIGKILL ends all of them."""
        assert self.process
        if self.process.poll() is None:
            (os.killpg if number == signal.SIGKILL else os.kill)(self.process.pid, number)

    @property
    def code(self) -> int | None:
        assert self.process
        return self.process.poll()

    def as_dict(self, job: str) -> dict[str, Any]:
        code = self.code
        phase = "Running" if code is None else "Failed" if code else "Succeeded"
        ended = {"terminated": {"exitCode": code if code and code > 0 else 137, "reason": "Error"}}
        state = {"running": {"startedAt": self.born}} if code is None else ended
        labels = {
            "jobset.sigs.k8s.io/jobset-name": job, "jobset.sigs.k8s.io/replicatedjob-name": "node",
            "batch.kubernetes.io/job-completion-index": str(self.rank),
        }  # fmt: skip
        container = {
            "name": "node", "image": "i", "imageID": "i", "ready": code is None, "restartCount": len(self.codes),
            "state": {"terminated": {"exitCode": 0}} if code == 0 else state,
        }  # fmt: skip
        return {
            "metadata": {"name": self.name, "labels": labels, "creationTimestamp": self.born[:19] + "Z"},
            "spec": {"containers": [{"name": "node"}]},
            "status": {"phase": phase, "containerStatuses": [container]},
        }


class Job:
    """A TrainJob with its pods."""

    def __init__(self, body: dict[str, Any], state: "State") -> None:
        self.body, self.state = body, state
        body["metadata"] |= {"uid": str(uuid.uuid4()), "namespace": "runs", "creationTimestamp": now()[:19] + "Z"}
        body["status"] = {}
        self.deleted, self.evicted = False, list[Pod]()
        trainer, name = body["spec"]["trainer"], body["metadata"]["name"]
        port, nodes = str(free_port()), trainer["numNodes"]
        clean = ("MLFLOW_", "AWS_", "GANFLOW_", "KFP_", "POD_", "PET_", "OMP_", "KUBECONFIG")
        base = {key: value for key, value in os.environ.items() if not key.startswith(clean)}
        base["PATH"] = f"{Path(sys.executable).parent}:{base['PATH']}"
        base |= {variable["name"]: value for variable in trainer["env"] if (value := self._value(variable)) is not None}
        base |= {
            "PET_NNODES": str(nodes), "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
            "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port, "PYTHONWARNINGS": "ignore",
        }  # fmt: skip
        self.pods = [
            Pod(
                f"{name}-node-0-{rank}-{uuid.uuid4().hex[:5]}",
                rank,
                [*state.instead, *trainer["command"]],
                base | {"PET_NODE_RANK": str(rank)},
            )
            for rank in range(nodes)
        ]
        threading.Thread(target=self._tend, daemon=True).start()

    def evict(self, rank: int) -> Pod:
        """A node's pod ends, and another takes its place."""
        old = self.pods[rank]
        self.evicted.append(old)
        self.pods[rank] = Pod(f"{old.name[:-5]}{uuid.uuid4().hex[:5]}", rank, old.command, old.environment)
        old.signal(signal.SIGKILL)
        return old

    def _value(self, variable: dict[str, Any]) -> str | None:
        if "value" in variable:
            return str(variable["value"])
        [reference] = variable["valueFrom"].values()
        value = self.state.environment.get(reference["key"])
        assert value is not None or reference["optional"], variable
        return value

    def _tend(self) -> None:
        """As Kubernetes' job controller: a container that fails is started again, so often for all nodes together."""
        restarts = 0
        while not self.deleted:
            codes = [pod.code for pod in self.pods]
            if all(code == 0 for code in codes):
                return self.end("Complete", "JobsCompleted", "jobset completed successfully")
            for pod in self.pods:
                if pod.code:
                    restarts += 1
                    if restarts > self.state.restarts:
                        self.quit()
                        return self.end("Failed", "FailedJobs", "jobset failed due to one or more job failures")
                    pod.codes.append(pod.code)
                    pod.start()
            time.sleep(0.1)
        self.quit()
        for pod in self.pods:
            pod.reader.join()
        self.state.jobs.pop(self.body["metadata"]["name"])

    def quit(self) -> None:
        for pod in self.pods:
            pod.signal(signal.SIGTERM)
        end = time.monotonic() + 5
        while time.monotonic() < end and any(pod.code is None for pod in self.pods):
            time.sleep(0.05)
        for pod in self.pods:
            pod.signal(signal.SIGKILL)

    def end(self, kind: str, reason: str, message: str) -> None:
        for pod in self.pods:
            pod.reader.join()
        condition = {"type": kind, "status": "True", "reason": reason, "message": message}
        condition["lastTransitionTime"] = now()[:19] + "Z"
        self.body["status"] = {"conditions": [condition]}
        while not self.deleted and self.body["metadata"]["name"] in self.state.jobs:
            time.sleep(0.05)
        self.state.jobs.pop(self.body["metadata"]["name"], None)


@dataclass
class State:
    """What the server knows, and how it is to behave."""

    environment: dict[str, str] = field(default_factory=dict)
    """What the config map and the secrets hold."""
    instead: list[str] = field(default_factory=list)
    """What the nodes run, with the TrainJob's command as arguments; nothing: that command itself."""
    restarts: int = 6
    rights: set[tuple[str, str]] | None = None
    """Verb and resource that are allowed; None allows all."""
    pending: bool = False
    """Whether the nodes' pods wait for a machine."""
    installed: bool = True
    """Whether TrainJobs are known."""
    jobs: dict[str, Job] = field(default_factory=dict)
    made: list[dict[str, Any]] = field(default_factory=list)
    """Every TrainJob that was made, as it came."""
    faults: list[kfp_api.Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    seen: list[dict[str, str]] = field(default_factory=list)
    tokens: None = None
    url: str = ""

    def asked(self, method: str, path: str) -> int:
        """How many requests came."""
        return sum(one == method and path in where for one, where in self.requests)


class Handler(kfp_api.Handler):
    state: State  # type: ignore[assignment]
    routes = (
        ("POST", TRAINJOBS, "create"),
        ("GET", TRAINJOBS, "list_jobs"),
        ("GET", f"{TRAINJOBS}/([^/]+)", "get"),
        ("DELETE", f"{TRAINJOBS}/([^/]+)", "delete"),
        ("GET", r"/api/v1/namespaces/runs/pods", "pods"),
        ("GET", r"/api/v1/namespaces/runs/pods/([^/]+)/log", "log_of"),
        ("POST", r"/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "review"),
        ("GET", r"/apis/trainer.kubeflow.org/v1alpha1/clustertrainingruntimes/torch-distributed", "runtime"),
    )

    def answer(self, content: Any, status: int = 200) -> None:
        if not isinstance(content, Iterator):
            return super().answer(content, status)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for line in content:
                data = f"{line}\n".encode()
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True
        return None

    def refuse(self, status: int, said: str) -> None:
        super().answer({"kind": "Status", "status": "Failure", "message": said, "code": status}, status)

    def create(self) -> Any:
        if not self.state.installed:
            return kfp_api.Refusal(404, "the server could not find the requested resource")
        body = json.loads(self.body)
        assert TrainerV1alpha1TrainJob.from_dict(body).to_dict() == body, "a field that the API does not know"
        name = body["metadata"]["name"]
        if name in self.state.jobs:
            return kfp_api.Refusal(409, f'trainjobs.trainer.kubeflow.org "{name}" already exists')
        self.state.made.append(json.loads(self.body))
        self.state.jobs[name] = Job(body, self.state)
        return body

    def list_jobs(self) -> Any:
        if not self.state.installed:
            return kfp_api.Refusal(404, "the server could not find the requested resource")
        key, _, value = self.query.get("labelSelector", "").partition("=")
        jobs = [job.body for job in self.state.jobs.values()]
        items = [job for job in jobs if not key or job["metadata"]["labels"].get(key) == value]
        return {"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainJobList", "metadata": {}, "items": items}

    def get(self, name: str) -> Any:
        job = self.state.jobs.get(name)
        return job.body if job else kfp_api.Refusal(404, f'trainjobs.trainer.kubeflow.org "{name}" not found')

    def delete(self, name: str) -> Any:
        job = self.state.jobs.get(name)
        if job is None:
            return self.get(name)
        job.body["metadata"]["deletionTimestamp"] = now()
        job.deleted = True
        return job.body

    def pods(self) -> Any:
        wanted = dict(part.split("=") for part in self.query["labelSelector"].split(",") if "=" in part)
        job = self.state.jobs.get(wanted["jobset.sigs.k8s.io/jobset-name"])
        items = [pod.as_dict(job.body["metadata"]["name"]) for pod in (*job.evicted, *job.pods)] if job else []
        for item in items if self.state.pending else []:
            item["status"] = {"phase": "Pending"}
        return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}

    def log_of(self, name: str) -> Any:
        pods = [pod for job in self.state.jobs.values() for pod in (*job.evicted, *job.pods) if pod.name == name]
        if not pods:
            return kfp_api.Refusal(404, f'pods "{name}" not found')
        stamped = self.query.get("timestamps") == "True"
        lines = self._lines(pods[0], self.query.get("follow") == "True")
        return (line if stamped else line.partition(" ")[2] for line in lines)

    def _lines(self, pod: Pod, follow: bool) -> Iterator[str]:
        told, restarts = 0, len(pod.codes)
        while True:
            over = not follow or pod.code is not None or len(pod.codes) > restarts
            yield from pod.log[told : (told := len(pod.log))]
            if over:
                return
            time.sleep(0.05)

    def review(self) -> Any:
        wanted = json.loads(self.body)["spec"]["resourceAttributes"]
        assert wanted["namespace"] == "runs"
        asked = (wanted["verb"], "/".join(filter(None, (wanted["resource"], wanted.get("subresource")))))
        allowed = self.state.rights is None or asked in self.state.rights
        return {"spec": {"resourceAttributes": wanted}, "status": {"allowed": allowed}}

    def runtime(self) -> Any:
        """As Kubeflow Trainer installs it."""
        container = {"name": "node", "image": "pytorch/pytorch"}
        template = {"spec": {"template": {"spec": {"containers": [container]}}}}
        template["metadata"] = {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}}
        jobs = [{"name": "node", "template": template}]
        return {
            "apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "ClusterTrainingRuntime",
            "metadata": {"name": "torch-distributed", "labels": {"trainer.kubeflow.org/framework": "torch"}},
            "spec": {
                "mlPolicy": {"numNodes": 1, "torch": {}}, "template": {"spec": {"replicatedJobs": jobs}},
            },
        }  # fmt: skip


@contextmanager
def trainer_api(kubeconfig: Path) -> Iterator[State]:
    """The server, on loopback, and a kubeconfig that names it with the namespace `runs`."""
    state = State()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"state": state}))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    here = {"cluster": "here", "user": "me", "namespace": "runs"}
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1", "kind": "Config", "current-context": "here",
                "clusters": [{"name": "here", "cluster": {"server": state.url}}],
                "contexts": [{"name": "here", "context": here}], "users": [{"name": "me", "user": {}}],
            }
        )
    )  # fmt: skip
    try:
        yield state
    finally:
        for job in list(state.jobs.values()):
            job.deleted = True
            for pod in job.pods:
                pod.signal(signal.SIGKILL)
        server.shutdown()
        server.server_close()

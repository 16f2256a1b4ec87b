"""An HTTP server that answers as Kubeflow Pipelines' v2beta1 API does, made with kfp-server-api's own models.

What goes wrong is asked for: a fault is taken once by the next request whose path has its text.
"""

import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api as api

BEGINNING = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


@dataclass
class Fault:
    """What happens once to a request: a status, `drop` (no answer), `lose` (it is done, the answer lost) or `hang`."""

    path: str
    """Text in the request's path; a method and a blank before it mean that method's requests alone."""
    kind: int | str
    times: int = 1


@dataclass
class State:
    """What the server knows."""

    pipelines: list[Any] = field(default_factory=list)
    versions: list[Any] = field(default_factory=list)
    experiments: list[Any] = field(default_factory=list)
    runs: list[Any] = field(default_factory=list)
    recurring: list[Any] = field(default_factory=list)
    packages: dict[str, str] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    script: list[str] = field(default_factory=list)
    """States that a run takes one after the other, each time that it is asked for; the last one stays."""
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    tokens: set[str] | None = None
    """Those that are taken; None takes all."""
    seen: list[dict[str, str]] = field(default_factory=list)
    """Headers of the requests."""
    url: str = ""

    def asked(self, method: str, path: str) -> int:
        """How many requests came."""
        return sum(one == method and path in where for one, where in self.requests)


@contextmanager
def kfp_api() -> Iterator[State]:
    """The server, on loopback."""
    state = State()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"state": state}))
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


WORKFLOW = "training-7x2kd"
UNFINISHED = datetime(1, 1, 1, tzinfo=UTC)
"""What KFP 2.17 gives as the end of what has not ended: Go's zero time."""


def digest(node: str) -> int:
    """FNV-1a, of 32 bits."""
    value = 0x811C9DC5
    for byte in node.encode():
        value = (value ^ byte) * 0x01000193 % 2**32
    return value


def node(name: str, state: str | None, number: int = 0, children: Sequence[str] = (), **more: Any) -> Any:
    """A node of the Argo workflow as KFP 2.17 tells it; `children` are full names. A minute after the one before."""
    start = BEGINNING + timedelta(minutes=number)
    ended = state in ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
    child = api.PipelineTaskDetailChildTask
    return api.V2beta1PipelineTaskDetail(
        task_id=str(uuid.uuid4()), display_name=name, state=state, create_time=start,
        start_time=start if state else None, end_time=start + timedelta(seconds=30) if ended else UNFINISHED,
        child_tasks=[child(pod_name=f"{WORKFLOW}-{digest(one)}") for one in children] or None, **more,
    )  # fmt: skip


def place(task: str) -> str:
    """Full name of a task's node."""
    return f"{WORKFLOW}.root.exit-handler-1.{task}"


def pod(task: str, attempt: int | None = 0) -> str:
    """Name of the pod of an attempt; None for a task without retries."""
    if attempt is None:
        return f"{WORKFLOW}-system-container-impl-{digest(place(task) + '.executor')}"
    return f"{WORKFLOW}-retry-system-container-impl-{digest(f'{place(task)}.executor({attempt})')}"


def task(name: str, state: str | None, number: int = 0, tries: int = 1, cached: bool = False, **more: Any) -> list[Any]:
    """The nodes of a task: with no `tries` it has no retries, and its executor is a pod."""
    here = place(name)
    nodes = [
        node(f"{name}-driver", "SUCCEEDED" if state else "RUNNING", number, [here] if state else []),
        node(name, state, number, [f"{here}.executor"] if state else [], **more),
    ]
    if not state:
        return nodes
    if cached:
        return [*nodes, node("executor", "SKIPPED", number, [place("what-comes-next-driver")])]
    ran = [f"{here}.executor({attempt})" for attempt in range(tries)]
    states = ["FAILED"] * (tries - 1) + [state] * bool(tries)
    attempts = [node(f"executor({attempt})", one, number) for attempt, one in enumerate(states)]
    return [*nodes, node("executor", state, number, ran), *attempts]


def run(run_id: str, state: str = "RUNNING", tasks: Sequence[list[Any]] = (), **more: Any) -> Any:
    """A run: beside the nodes of its tasks there are those of the workflow itself and its groups."""
    root, group = f"{WORKFLOW}.root", f"{WORKFLOW}.root.exit-handler-1"
    details = [
        node(WORKFLOW, state, children=[f"{root}-driver"]),
        node("root-driver", "SUCCEEDED", children=[root]),
        node("root", state, children=[f"{group}-driver"]),
        node("exit-handler-1-driver", "SUCCEEDED", children=[group]),
        node("exit-handler-1", state),
        *(one for nodes in tasks for one in nodes),
    ]
    return api.V2beta1Run(
        run_id=run_id, display_name=run_id, state=state, created_at=BEGINNING,
        run_details=api.V2beta1RunDetails(task_details=details), **more,
    )  # fmt: skip


class Handler(BaseHTTPRequestHandler):
    state: State
    protocol_version = "HTTP/1.1"
    routes = (
        ("GET", r"/apis/v2beta1/healthz", "healthz"),
        ("GET", r"/apis/v2beta1/pipelines", "list_pipelines"),
        ("POST", r"/apis/v2beta1/pipelines", "create_pipeline"),
        ("GET", r"/apis/v2beta1/pipelines/([^/]+)/versions", "list_versions"),
        ("POST", r"/apis/v2beta1/pipelines/upload_version", "upload_version"),
        ("GET", r"/apis/v2beta1/experiments", "list_experiments"),
        ("POST", r"/apis/v2beta1/experiments", "create_experiment"),
        ("GET", r"/apis/v2beta1/runs", "list_runs"),
        ("POST", r"/apis/v2beta1/runs", "create_run"),
        ("GET", r"/apis/v2beta1/runs/([^/]+)", "get_run"),
        ("POST", r"/apis/v2beta1/runs/([^/]+):terminate", "terminate_run"),
        ("POST", r"/apis/v2beta1/runs/([^/]+):retry", "retry_run"),
        ("GET", r"/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", "log"),
        ("GET", r"/apis/v2beta1/recurringruns", "list_recurring"),
        ("POST", r"/apis/v2beta1/recurringruns", "create_recurring"),
        ("POST", r"/apis/v2beta1/recurringruns/([^/]+):(enable|disable)", "switch_recurring"),
        ("DELETE", r"/apis/v2beta1/recurringruns/([^/]+)", "delete_recurring"),
    )

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.serve()

    def do_POST(self) -> None:
        self.serve()

    def do_DELETE(self) -> None:
        self.serve()

    def serve(self) -> None:
        url = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(url.query).items()}
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.state.requests.append((self.command, self.path))
        self.state.seen.append(dict(self.headers))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        fault = self.fault()
        if self.state.tokens is not None and token not in self.state.tokens:
            return self.refuse(401, "Request header error: there is no valid token")
        if fault == "drop":
            return self.drop()
        if fault == "hang":
            time.sleep(30)
            return self.drop()
        if isinstance(fault, int):
            return self.refuse(fault, "InternalServerError: the database is gone")
        for method, pattern, name in self.routes:
            if method == self.command and (match := re.fullmatch(pattern, url.path)):
                answer = getattr(self, name)(*match.groups())
                return self.drop() if fault == "lose" else self.answer(answer)
        return self.refuse(404, f"{self.path}: not found")

    def drop(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def fault(self) -> int | str | None:
        for fault in self.state.faults:
            method, _, path = fault.path.rpartition(" ")
            if path in self.path and method in ("", self.command) and fault.times:
                fault.times -= 1
                return fault.kind
        return None

    def answer(self, content: Any, status: int = 200) -> None:
        if isinstance(content, Refusal):
            return self.refuse(content.status, content.said)
        plain = isinstance(content, str)
        body = content.encode() if plain else json.dumps(api.ApiClient().sanitize_for_serialization(content)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if plain else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status: int, said: str) -> None:
        self.answer({"error": said, "code": 13, "message": said, "details": []}, status)

    def read(self, model: str) -> Any:
        return api.ApiClient()._ApiClient__deserialize(json.loads(self.body), getattr(api, model))

    def page(self, items: list[Any], model: Any, key: str) -> Any:
        if "filter" in self.query:
            [predicate] = json.loads(self.query["filter"])["predicates"]
            assert predicate["operation"] == "EQUALS"
            items = [item for item in items if getattr(item, predicate["key"]) == predicate["stringValue"]]
        start = int(self.query.get("page_token") or 0)
        end = start + int(self.query.get("page_size") or 10)
        token = str(end) if end < len(items) else None
        return model(**{key: items[start:end] or None, "next_page_token": token})

    def healthz(self) -> Any:
        return api.V2beta1GetHealthzResponse(multi_user=False)

    def list_pipelines(self) -> Any:
        return self.page(self.state.pipelines, api.V2beta1ListPipelinesResponse, "pipelines")

    def create_pipeline(self) -> Any:
        made = self.read("V2beta1Pipeline")
        if any(one.display_name == made.display_name for one in self.state.pipelines):
            return Refusal(409, f"AlreadyExistError: {made.display_name}")
        made.pipeline_id = str(uuid.uuid4())
        self.state.pipelines.append(made)
        return made

    def list_versions(self, pipeline: str) -> Any:
        versions = [one for one in self.state.versions if one.pipeline_id == pipeline]
        return self.page(versions, api.V2beta1ListPipelineVersionsResponse, "pipeline_versions")

    def upload_version(self) -> Any:
        made = api.V2beta1PipelineVersion(
            pipeline_id=self.query["pipelineid"], pipeline_version_id=str(uuid.uuid4()), name=self.query["name"],
            display_name=self.query["display_name"],
        )  # fmt: skip
        self.state.versions.append(made)
        content = self.body.decode()
        self.state.packages[made.display_name] = content[
            content.index("# PIPELINE DEFINITION") : content.rindex("\r\n--")
        ]
        return made

    def list_experiments(self) -> Any:
        return self.page(self.state.experiments, api.V2beta1ListExperimentsResponse, "experiments")

    def create_experiment(self) -> Any:
        made = self.read("V2beta1Experiment")
        made.experiment_id = str(uuid.uuid4())
        self.state.experiments.append(made)
        return made

    def list_runs(self) -> Any:
        return self.page(self.state.runs, api.V2beta1ListRunsResponse, "runs")

    def create_run(self) -> Any:
        made = self.read("V2beta1Run")
        made.run_id, made.state, made.created_at = str(uuid.uuid4()), "PENDING", BEGINNING
        self.state.runs.append(made)
        return made

    def get_run(self, run_id: str) -> Any:
        found = next((one for one in self.state.runs if one.run_id == run_id), None)
        if found is None:
            return Refusal(404, f"ResourceNotFoundError: Run {run_id} not found")
        if self.state.script:
            found.state = self.state.script.pop(0)
        return found

    def terminate_run(self, run_id: str) -> Any:
        found = self.get_run(run_id)
        if not isinstance(found, Refusal):
            found.state = "CANCELING"
        return found if isinstance(found, Refusal) else {}

    def retry_run(self, run_id: str) -> Any:
        found = self.get_run(run_id)
        if not isinstance(found, Refusal) and found.state not in ("FAILED", "CANCELED"):
            return Refusal(400, f"Workflow cannot be retried: it is {found.state}")
        if not isinstance(found, Refusal):
            found.state = "RUNNING"
        return found if isinstance(found, Refusal) else {}

    def log(self, run_id: str, pod: str) -> Any:
        return self.state.logs.get(pod) or Refusal(404, f"pod {pod} not found")

    def list_recurring(self) -> Any:
        return self.page(self.state.recurring, api.V2beta1ListRecurringRunsResponse, "recurring_runs")

    def create_recurring(self) -> Any:
        made = self.read("V2beta1RecurringRun")
        made.recurring_run_id = str(uuid.uuid4())
        made.status = "ENABLED" if made.mode == "ENABLE" else "DISABLED"
        self.state.recurring.append(made)
        return made

    def switch_recurring(self, identity: str, what: str) -> Any:
        for one in self.state.recurring:
            if one.recurring_run_id == identity:
                one.status = f"{what}d".upper()
        return {}

    def delete_recurring(self, identity: str) -> Any:
        before = len(self.state.recurring)
        self.state.recurring[:] = [one for one in self.state.recurring if one.recurring_run_id != identity]
        return {} if len(self.state.recurring) < before else Refusal(404, f"recurring run {identity} not found")


@dataclass
class Refusal:
    """An answer that is an error."""

    status: int
    said: str

"""Is everything there that a run needs, here or in a pod of a cluster? A line a check, with the cure."""

import os
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Literal

from ganflow.errors import GanflowError
from ganflow.image_registry import has_manifest, registry_of
from ganflow.objects import open_store
from ganflow.resources import bytes_of

State = Literal["ok", "failed", "skipped"]
CHECKPOINTS = "GANFLOW_CHECKPOINTS"
SERVER = "MLFLOW_TRACKING_URI"
SHM = Path("/dev/shm")
SKEW_SECONDS = 60
"""S3 refuses requests that are 15 minutes off; certificates and caches trouble sooner."""
TIMEOUT_SECONDS = 15


@dataclass(frozen=True)
class Needs:
    """What the run will ask for."""

    raw: str | None = None
    """The raw images: a pin's text, or a path."""
    images: tuple[str, ...] = ()
    """Container images, by name."""
    accelerators: int = 0
    """GPUs that a process here must see."""
    shm: str = "0Mi"
    """Size of /dev/shm, as Kubernetes writes it."""
    nodes: int = 1
    """Of one training; more than one are a TrainJob's."""
    cluster: bool = False
    """Nothing may be left unset that a cluster needs."""


@dataclass(frozen=True)
class Finding:
    """What one check found; when it failed, with the cure."""

    check: str
    state: State
    said: str


class _Unset(Exception):
    """There is nothing to check."""


def examine(needs: Needs) -> list[Finding]:
    """Every check, in the order in which a run meets them; none raises."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # whoever asks wants to hear of a dead server now
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(TIMEOUT_SECONDS))
    os.environ.setdefault("AWS_MAX_ATTEMPTS", "2")
    checks: dict[str, Callable[[Needs], str]] = {
        "object store": _object_store,
        "data": _data,
        "tracking": _tracking,
        "registry": _registry,
        "gpu": _gpu,
        "shared memory": _shared_memory,
        "several nodes": _several_nodes,
        "clock": _clock,
    }
    found = [_finding(name, partial(run, needs)) for name, run in checks.items()]
    return found + [_finding("image", partial(_image, image)) for image in needs.images]


def table(findings: list[Finding]) -> str:
    """A line a finding."""
    width = max(len(finding.check) for finding in findings)
    return "\n".join(f"{finding.state:7}  {finding.check:{width}}  {finding.said}" for finding in findings)


def markdown(findings: list[Finding]) -> str:
    """The same for Kubeflow's pages."""
    rows = [f"| {finding.state} | {finding.check} | {finding.said.replace('|', ' ')} |" for finding in findings]
    return "\n".join(["# Doctor", "", "| | check | found |", "| --- | --- | --- |", *rows, ""])


def as_dicts(findings: list[Finding]) -> list[dict[str, str]]:
    """For JSON."""
    return [asdict(finding) for finding in findings]


def failures(findings: list[Finding]) -> list[Finding]:
    """Those that must be mended before a run."""
    return [finding for finding in findings if finding.state == "failed"]


def _finding(name: str, run: Callable[[], str]) -> Finding:
    try:
        return Finding(name, "ok", run())
    except _Unset as reason:
        return Finding(name, "skipped", str(reason))
    except GanflowError as error:
        return Finding(name, "failed", str(error))


def _variable(name: str, needs: Needs) -> str:
    """An environment variable that the config map gives."""
    if value := os.environ.get(name):
        return value
    if needs.cluster:
        raise GanflowError(
            f"{name} is not set; give it in the config map that resources.config_map names, and export it to ask from "
            "outside"
        )
    raise _Unset(f"{name} is not set")


def _object_store(needs: Needs) -> str:
    url, key, content = _variable(CHECKPOINTS, needs), "doctor", uuid.uuid4().hex
    store = open_store(url)
    with tempfile.TemporaryDirectory() as folder:
        sent, got = Path(folder) / "sent", Path(folder) / "got"
        sent.write_text(content)
        store.put(sent, key)
        store.get(key, got)
    return f"{url} takes an object and gives it back"


def _data(needs: Needs) -> str:
    from ganflow.fetch import require_pushed
    from ganflow.pin import BEGINNING, read_pin, require_shared

    if needs.raw is None:
        raise _Unset("no data was named")
    if not needs.raw.startswith(BEGINNING):
        if not Path(needs.raw).exists():
            raise GanflowError(f"{needs.raw} is not there; give the raw images' path, or a pin of `ganflow data pin`")
        return f"{needs.raw} is there"
    pin = read_pin(needs.raw)
    if needs.cluster:
        require_shared(pin)
    require_pushed(pin)
    return f"{pin.remote} has {pin.path} ({pin.md5[:12]}, {pin.files} files, {pin.size} bytes)"


def _tracking(needs: Needs) -> str:
    from ganflow.tracking import require_writable

    if needs.cluster:
        _variable(SERVER, needs)
    return f"{require_writable()} takes runs, metrics and artifacts"


def _registry(needs: Needs) -> str:
    from ganflow.registry import require_aliases

    if needs.cluster:
        _variable(SERVER, needs)
    return f"{require_aliases()} moves aliases"


def _gpu(needs: Needs) -> str:
    if not needs.accelerators:
        raise _Unset("the profile asks for none")
    import torch

    seen = torch.cuda.device_count()
    if seen < needs.accelerators:
        raise GanflowError(
            f"{seen} of {needs.accelerators} GPUs are visible; check the node's driver and device plugin, and the "
            "profile's accelerator and tolerations"
        )
    return f"{seen} visible, the first a {torch.cuda.get_device_name(0)}"


def _shared_memory(needs: Needs) -> str:
    if not SHM.is_dir():
        raise _Unset(f"there is no {SHM}")
    found = os.statvfs(SHM)
    size = found.f_frsize * found.f_blocks
    if size < bytes_of(needs.shm):
        raise GanflowError(
            f"{SHM} has {size >> 20} MiB and the profile wants {needs.shm}; mount a memory volume there (the compiled "
            "pipeline does), or start the container with --shm-size"
        )
    return f"{size >> 20} MiB"


def _several_nodes(needs: Needs) -> str:
    """What the task launch asks of Kubernetes, by the rights of whoever asks here."""
    if needs.nodes == 1:
        raise _Unset("the profile has one node")
    from ganflow.cluster import Cluster
    from ganflow.trainjob import GROUP, PLURAL

    cluster = Cluster(patience_seconds=TIMEOUT_SECONDS)
    cluster.require_trainjobs()
    asked = [(verb, PLURAL, GROUP) for verb in ("create", "get", "delete")]
    asked += [("list", "pods", ""), ("get", "pods/log", "")]
    missing = [f"{verb} {resource}" for verb, resource, group in asked if not cluster.may(verb, resource, group)]
    if missing:
        raise GanflowError(
            f"in the namespace {cluster.namespace} we may not {', '.join(missing)}; give the service account the role "
            "of deploy/base/runs/trainer.yaml"
        )
    return f"TrainJobs can be made in the namespace {cluster.namespace}"


def _clock(needs: Needs) -> str:
    server = _variable(SERVER, needs)
    if not server.startswith("http"):
        raise _Unset(f"{server} is no server to compare with")
    before = time.time()
    try:
        with urllib.request.urlopen(f"{server.rstrip('/')}/health", timeout=TIMEOUT_SECONDS) as answer:
            date = answer.headers["Date"]
    except urllib.error.HTTPError as error:
        date = error.headers["Date"]
    except (OSError, HTTPException) as error:
        raise GanflowError(f"{server} does not answer ({error}); check {SERVER} and the server") from error
    if date is None:
        raise _Unset(f"{server} does not say what time it is")
    skew = parsedate_to_datetime(date).timestamp() - (before + time.time()) / 2
    if abs(skew) > SKEW_SECONDS:
        raise GanflowError(
            f"the clock here is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} that of {server}, and S3 "
            "refuses requests that are too far off; set the node's clock (chrony, NTP)"
        )
    return f"within {SKEW_SECONDS} s of {server}"


def _image(image: str) -> str:
    if registry_of(image) is None:
        raise _Unset(f"{image} names no registry: the nodes must have it, as `kind load docker-image` brings it")
    has = has_manifest(image)
    if has is None:
        raise _Unset(f"{image}: its registry asks for credentials, which resources.image_pull_secrets must give")
    if not has:
        raise GanflowError(f"{image} is not in its registry; push it, or correct the name or the digest")
    return f"{image} can be pulled"

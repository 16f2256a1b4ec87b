"""What a new version of a compiled pipeline changes, and what of it Kubeflow will run again.

Kubeflow's cache key of a task has the image's name, the command, the names and values of its inputs, the declared
outputs and the volumes; an input that another task made anew is another value. Resources, secrets, retries and
environment variables are not in it.
"""

import json
from dataclasses import dataclass
from typing import Any

from pipelines.ir import Pipeline, Place, shown_name

Key = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """What becomes of a task."""

    task: str
    changed: tuple[str, ...]
    """What differs: `new`, `removed`, parts of the cache key, or settings that are not in it."""
    again: str | None
    """Why it runs again although it may have run before; None: its outputs come from the cache."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"task": self.task, "changed": list(self.changed), "again": self.again}


def diff(old: Pipeline, new: Pipeline) -> list[Change]:
    """Of every task of either, in the new one's order; groups are left out."""
    before, after = _tasks(old), _tasks(new)
    again: dict[str, str] = {}
    changes = []
    for name in _in_order(after):
        place, other = after[name], before.get(name)
        changed = ("new",) if other is None else tuple(_differences(other, place))
        keyed = [part for part in changed if part in KEY or part == "new"]
        upstream = [task for task in _producers(place, after) if task in again]
        if not place.cached:
            again[name] = "it is never cached"
        elif keyed:
            again[name] = "it is new" if keyed == ["new"] else f"its cache key changes ({', '.join(keyed)})"
        elif upstream:
            again[name] = f"{upstream[0]} runs again"
        changes.append(Change(name, changed, again.get(name)))
    removed = [Change(name, ("removed",), None) for name in before if name not in after]
    return changes + removed


def _image(place: Place) -> Any:
    return (place.container or {}).get("image")


def _command(place: Place) -> Any:
    container = place.container or {}
    return [container.get("command"), container.get("args")]


def _inputs(place: Place) -> Any:
    inputs = place.task.get("inputs", {})
    return [inputs.get("parameters", {}), inputs.get("artifacts", {})]


def _outputs(place: Place) -> Any:
    outputs = place.component.get("outputDefinitions", {})
    return {kind: {name: _typed(spec) for name, spec in items.items()} for kind, items in outputs.items()}


def _typed(spec: Key) -> Key:
    return {key: value for key, value in spec.items() if key != "description"}


def _volumes(place: Place) -> Any:
    return place.kubernetes.get("pvcMount")


def _resources(place: Place) -> Any:
    return (place.container or {}).get("resources")


def _environment(place: Place) -> Any:
    return (place.container or {}).get("env")


def _caching(place: Place) -> Any:
    return place.task.get("cachingOptions")


def _retry(place: Place) -> Any:
    return place.task.get("retryPolicy")


def _settings(place: Place) -> Any:
    return {key: value for key, value in place.kubernetes.items() if key != "pvcMount"}


KEY = {"image": _image, "command": _command, "inputs": _inputs, "outputs": _outputs, "volumes": _volumes}
"""What Kubeflow's cache key is made of."""
REST = {
    "resources": _resources, "environment": _environment, "caching": _caching, "retries": _retry,
    "Kubernetes settings": _settings,
}  # fmt: skip


def _differences(old: Place, new: Place) -> list[str]:
    parts = {**KEY, **REST}
    return [name for name, of in parts.items() if _text(of(old)) != _text(of(new))]


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _tasks(pipeline: Pipeline) -> dict[str, Place]:
    """The tasks that run something; two of the same name do not stand in one graph."""
    return {place.name: place for place in pipeline.places() if place.container is not None}


def _producers(place: Place, places: dict[str, Place]) -> list[str]:
    """Names of the tasks whose outputs it takes, and of those within a group that it waits for."""
    inputs = place.task.get("inputs", {})
    sources = [*inputs.get("artifacts", {}).values(), *inputs.get("parameters", {}).values()]
    names = [
        source[key]["producerTask"]
        for source in sources
        for key in ("taskOutputArtifact", "taskOutputParameter")
        if key in source
    ]
    group = place.path[:-1]
    found = []
    for name in names:
        shown = (*group, shown_name(place.siblings, name))
        found += [other for other in places if places[other].path[: len(shown)] == shown]
    return found


def _in_order(places: dict[str, Place]) -> list[str]:
    """Producers first."""
    ordered: list[str] = []

    def visit(name: str) -> None:
        if name not in ordered:
            for producer in _producers(places[name], places):
                visit(producer)
            ordered.append(name)

    for name in places:
        visit(name)
    return ordered

"""`ganflow lineage MODEL`: from a model back to its data, code and machine, each looked at again on the way."""

import html
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ganflow import ledger, ledger_store, registry
from ganflow.artifacts import Evaluation, Model, file_hash, fingerprint, read_json
from ganflow.lineage import git, passport


@dataclass
class Node:
    """One thing that a model comes from. `wrong` says, a sentence each, what is not as it was."""

    kind: str
    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    sources: list["Node"] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def problems(self) -> list[str]:
        """Everything that is wrong, here and further back."""
        return [*self.wrong, *(problem for source in self.sources for problem in source.problems())]

    def lines(self, indent: str = "") -> list[str]:
        """The tree as text."""
        facts = "  ".join(f"{key}={value}" for key, value in self.facts.items() if value is not None)
        found = [f"{self.kind}  {self.name}  {facts}".rstrip(), *(f"  ! {problem}" for problem in self.wrong)]
        for number, source in enumerate(self.sources):
            last = number == len(self.sources) - 1
            first, *rest = source.lines()
            found += [f"{'└─ ' if last else '├─ '}{first}", *(f"{'   ' if last else '│  '}{line}" for line in rest)]
        return [indent + line for line in found]

    def svg(self) -> str:
        """The tree as a picture."""
        lines = self.lines()
        width = max(map(len, lines)) * 8 + 32
        colours = ["#c0392b" if "! " in line else "#222" for line in lines]
        rows = [
            f'<text x="16" y="{28 + 20 * row}" fill="{colour}">{html.escape(line)}</text>'
            for row, (line, colour) in enumerate(zip(lines, colours, strict=True))
        ]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{20 * len(lines) + 28}" '
            'font-family="monospace" font-size="13" xml:space="preserve"><rect width="100%" height="100%" '
            f'fill="#fff"/>{"".join(rows)}</svg>'
        )


@dataclass(frozen=True)
class Origin:
    """A model's files, and its passport: from its folder, or from the registry."""

    model: Model
    evaluation: Evaluation | None
    passport: dict[str, Any]
    registered: tuple[str, str] | None = None
    """Name and version."""


def origin(model: str, evaluation: Path | None = None) -> Origin:
    """Where MODEL, a folder or models:/NAME@ALIAS or models:/NAME/N, comes from.

    Raises ArtifactError or RegistryError when it is not there.
    """
    if not model.startswith("models:/"):
        folder, scored = Model(Path(model)), Evaluation(evaluation or Path(model).parent / "evaluation")
        scored_by = scored if scored.card.exists() else None
        kept = read_json(folder.provenance) if folder.provenance.exists() else None
        scores = scored_by.read_card() if scored_by else {"protocol_sha256": None}
        return Origin(folder, scored_by, passport(folder.read_card(), scores, kept))
    name, version = registry.resolve(model)
    folder = Model(registry.download(f"models:/{name}/{version}"))
    return Origin(folder, Evaluation(folder.path), read_json(folder.path / registry.PASSPORT), (name, version))


def trace(found: Origin) -> Node:
    """The tree: model, version, run, evaluation, data, code, image and pipeline, machine."""
    card = found.model.read_card()
    weights = file_hash(found.model.generator) if found.model.generator.exists() else None
    root = Node("model", card["generator_sha256"][:12], {"images": card["images_seen"]})
    if weights != card["generator_sha256"]:
        root.wrong.append(
            f"generator.safetensors was tampered with: its sha256 is {weights}, and model.json says other"
        )
    if found.registered:
        root.sources.append(_version(*found.registered, found.passport))
    if found.evaluation:
        root.sources.append(_evaluation(found.evaluation, card["generator_sha256"]))
    trained = found.passport["trained"] or {}
    root.sources += [
        _data(found.passport["data"], card["data"]["name"]),
        Node("parameters", found.passport["parameters_sha256"][:12], card["parameters"]),
        _code(trained.get("git")),
        Node("image", str(trained.get("image")), {"pipeline_sha256": trained.get("pipeline_sha256")}),
        Node("pipeline run", str(trained.get("kubeflow_run"))),
        Node("machine", str(trained.get("machine", {}).get("system")), trained.get("libraries", {})),
    ]
    return root


def pointer(raw_md5: str, folder: Path = Path()) -> Path | None:
    """The .dvc file below a folder that tracks the data with this md5."""
    for path in sorted(folder.rglob("*.dvc")):
        if path.is_file() and any(out.get("md5") == raw_md5 for out in _outs(path)):
            return path
    return None


def moved_tags(state: dict[str, Any], folder: Path | None = None) -> list[str]:
    """A sentence for each git tag that named the revision then, and names another now."""
    wrong = []
    for tag in state.get("tags", ()):
        now = git("rev-parse", "--verify", "--quiet", f"refs/tags/{tag}^{{commit}}", folder=folder)
        if now != state["revision"]:
            where = f"was moved to {now[:12]}" if now else "was deleted"
            wrong.append(f"the git tag {tag} {where}; it was at {state['revision'][:12]} when the model was trained")
    return wrong


def _outs(path: Path) -> list[dict[str, Any]]:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return []
    return list(content.get("outs", ())) if isinstance(content, dict) else []


def _version(name: str, version: str, stamped: dict[str, Any]) -> Node:
    facts = registry.facts(name, version)
    node = Node("version", f"{name} {version}", facts)
    entries = [record for record in ledger.records(ledger_store.read(name)) if record.version == version]
    for record in entries:
        node.sources.append(Node("ledger", f"record {record.number}", {"event": record.event, "who": record.who}))
        if record.passport_sha256 not in (None, fingerprint(stamped)):
            node.wrong.append(f"passport.json was tampered with: record {record.number} of the ledger has another hash")
    return node


def _evaluation(evaluation: Evaluation, generator_sha256: str) -> Node:
    scores = evaluation.read_card()
    score = scores["score"]
    value = f"{scores[score]:.4f} ± {scores[f'{score}_se']:.4f}"
    node = Node("evaluation", f"{score} {value}", {"protocol": scores["protocol_sha256"][:12]})
    if scores["generator_sha256"] != generator_sha256:
        node.wrong.append(f"scores.json is of another generator, {scores['generator_sha256'][:12]}")
    if fingerprint(scores["protocol"]) != scores["protocol_sha256"]:
        node.wrong.append("scores.json was tampered with: its protocol does not have the protocol_sha256 that it says")
    return node


def _data(md5s: dict[str, Any], name: str) -> Node:
    node = Node("data", name, md5s)
    found = pointer(md5s["raw_md5"] or "")
    if found:
        node.sources.append(Node("dvc", str(found)))
    else:
        node.wrong.append(f"no .dvc file of this checkout tracks the data {md5s['raw_md5']}")
    return node


def _code(state: dict[str, Any] | None) -> Node:
    if state is None:
        return Node("git", "unknown")
    facts = {"dirty": state["dirty"], "tags": ",".join(state.get("tags", ())) or None, "diff": state.get("diff_sha256")}
    node = Node("git", state["revision"], facts, moved_tags(state))
    if git("cat-file", "-e", f"{state['revision']}^{{commit}}") is None:
        node.wrong.append(f"the git revision {state['revision'][:12]} is not in this repository; fetch it")
    return node

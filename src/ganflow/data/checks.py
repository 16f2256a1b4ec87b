"""What is wrong with the prepared data, as numbers; and the rules of `data.checks`, which stop the pipeline."""

from collections import Counter
from typing import Any

import numpy as np

from ganflow.artifacts import Prepared, read_json
from ganflow.config import Checks
from ganflow.data.duplicates import Pairs, exact_duplicates, near_duplicates
from ganflow.data.signatures import Signatures, signatures
from ganflow.errors import DataError
from ganflow.images import AnyImages, Labels, open_prepared

EXAMPLES = 8
PIECE = 1024
KINDS = 12
Findings = dict[str, Any]
RULES = {
    "max_duplicate_fraction": ("duplicates", "fraction", "of the images equal an earlier one"),
    "max_near_duplicate_fraction": ("near_duplicates", "fraction", "of the images look like an earlier one"),
    "max_leaked_fraction": ("leaked", "fraction", "of the held-out images equal, or look like, a training image"),
    "max_blank_fraction": ("blank", "fraction", "of the images are of one colour"),
    "max_class_ratio": ("classes", "ratio", "is the largest class over the smallest"),
    "max_label_conflict_fraction": ("label_conflicts", "fraction", "of the images look like one of another class"),
    "max_upscaled_fraction": ("upscaled", "fraction", "of the raw images have a side below data.resolution"),
}
"""Each rule's place in the findings, and the words for it."""


def check(
    images: AnyImages, labels: Labels | None, found: Signatures, train: int, classes: list[str], kinds: dict[str, int]
) -> Findings:
    """What the checks find in images (N, C, R, R), the first `train` of them for training, with their signatures.

    `kinds` counts the raw images by size and mode. Each finding is a count, its fraction, and a few examples by their
    place among the images; a pair has the earlier image first. Near duplicates are no exact ones.
    """
    exact, alike = exact_duplicates(images, found), near_duplicates(found)
    both = np.unique(np.concatenate([exact, alike]), axis=0)
    near = alike[~np.isin(alike[:, 1], exact[:, 1])]
    blank = np.flatnonzero(found[:, 0] == 0)
    leaked = both[(both[:, 0] < train) & (both[:, 1] >= train)]
    conflicts = both[labels[both[:, 0]] != labels[both[:, 1]]] if labels is not None else both[:0]
    total = len(images)
    return {
        "images": {"train": train, "held_out": total - train},
        "duplicates": _later(exact, total),
        "near_duplicates": _later(near, total),
        "leaked": _later(leaked, total - train),
        "label_conflicts": _later(conflicts, total),
        "blank": _finding(len(blank), total, blank),
        "classes": _balance(labels[:train], classes) if labels is not None else None,
        **_raw(kinds, images.shape[2]),
    }


def check_prepared(prepared: Prepared) -> Findings:
    """Check a prepared folder anew. Raises ArtifactError when it is unfinished or damaged."""
    images, labels, card = open_prepared(prepared)
    pieces = [signatures(np.array(images[first : first + PIECE])) for first in range(0, len(images), PIECE)]
    known = read_json(prepared.findings)
    found = check(images, labels, np.concatenate(pieces), card["train"], card["classes"] or [], {})
    return found | {key: known[key] for key in ("sizes", "modes", "upscaled")}  # of the raw images, which are not here


def table(findings: Findings) -> str:
    """A line for each rule's finding."""
    lines = []
    for finding, key, words in RULES.values():
        if found := findings[finding]:
            value = f"{found[key]:10.4g}" if key == "ratio" else f"{found['count']:10,} {found['fraction']:8.2%}"
            lines.append(f"{value:19} {words}")
    return "\n".join(lines)


def broken_rules(findings: Findings, rules: Checks) -> list[str]:
    """A sentence's worth for each rule that the findings break."""
    broken = []
    for rule, (finding, key, words) in RULES.items():
        limit, found = getattr(rules, rule), findings[finding]
        if limit is not None and found and found[key] > limit:
            value = f"{found[key]:.4g}" if key == "ratio" else f"{found[key]:.2%} ({found['count']})"
            broken.append(f"{value} {words}, above data.checks.{rule} {limit}")
    return broken


def enforce(findings: Findings, rules: Checks, name: str) -> None:
    """Raise DataError when a rule is broken."""
    if broken := broken_rules(findings, rules):
        raise DataError(f"{name}: {'; '.join(broken)}; mend the data, or the rule in params.yaml")


def _later(pairs: Pairs, total: int) -> dict[str, Any]:
    """Counts the later images of the pairs, each once."""
    return _finding(len(np.unique(pairs[:, 1])), total, pairs)


def _finding(count: int, total: int, examples: Labels) -> dict[str, Any]:
    return {"count": count, "fraction": count / total, "examples": examples[:EXAMPLES].tolist()}


def _balance(labels: Labels, classes: list[str]) -> dict[str, Any]:
    """The ratio is infinite, and then null, for an empty class."""
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    ratio = max(counts) / max(min(counts), 1)
    return {"counts": dict(zip(classes, counts, strict=True)), "ratio": ratio}


def _raw(kinds: dict[str, int], resolution: int) -> dict[str, Any]:
    """Histograms of the raw images' sizes and modes, the commonest first, and how many are enlarged."""
    sizes: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    for kind, count in kinds.items():
        size, mode = kind.split(" ")
        sizes[size] += count
        modes[mode] += count
    common = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    small = sum(count for size, count in sizes.items() if min(map(int, size.split("x"))) < resolution)
    return {
        "sizes": dict(common[:KINDS]) | ({"other": sum(n for _, n in common[KINDS:])} if common[KINDS:] else {}),
        "modes": dict(sorted(modes.items())),
        "upscaled": {"count": small, "fraction": small / max(sum(sizes.values()), 1)},
    }

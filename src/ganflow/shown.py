"""What the Kubeflow Pipelines UI shows of a run: HTML, Markdown and numbers, each complete in itself."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ganflow.artifacts import Evaluation, write_text
from ganflow.promotion import Decision


def show_evaluation(evaluation: Evaluation, scores: dict[str, Any], report: Path, samples: Path) -> dict[str, float]:
    """Write the report and the sample grid as HTML; returns the numbers among the scores."""
    write_text(report, evaluation.report.read_text())
    picture = base64.b64encode(evaluation.samples.read_bytes()).decode()
    write_text(samples, f'<!doctype html><img alt="samples" src="data:image/png;base64,{picture}">\n')
    return numbers(scores)


def numbers(scores: dict[str, Any]) -> dict[str, float]:
    """The scores among the content of scores.json, by name."""
    return {name: value for name, value in scores.items() if isinstance(value, float)}


def decision_page(name: str, decision: Decision) -> str:
    """The gate's decision as Markdown."""
    checks = [(check.rule, "yes" if check.passed else "**no**", check.said) for check in decision.checks]
    return "\n".join(
        [
            f"# {name} version {decision.candidate.version}: {decision.verdict}",
            "",
            f"{decision.reason}.",
            "",
            *table(("rule", "passed", "because"), checks),
            "",
        ]
    )


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The lines of a Markdown table; nothing without rows."""
    if not rows:
        return []
    lines = [header, tuple("---" for _ in header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines]

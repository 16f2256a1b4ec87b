"""report.html: what was made and measured, on one page that needs no other file and no network."""

import html
from typing import Any

from ganflow.artifacts import Evaluation
from ganflow.page import STYLE, picture, table

MEANINGS = {
    "fid": "Fréchet distance at this number of images; lower is better",
    "fid_infinity": "the same, extrapolated to infinitely many images",
    "kid": "kernel distance, unbiased; lower is better",
    "precision": "part of the generated images that look real",
    "recall": "part of the real images that could be generated",
    "density": "real neighbourhoods around a generated image; about 1 is right",
    "coverage": "part of the real images with a generated one near",
    "inception_score": "how sure and how varied the classes are; higher is better",
    "nearest_distance": "median distance to the nearest training image",
    "memorisation": "chance to be nearer to the training images than an unseen real one is; 0.5 is right, 1 is a copy",
}
COLOURS = ("#c0392b", "#2471a3", "#b7950b", "#1e8449")


def write_report(
    scores: dict[str, Any], card: dict[str, Any], history: list[dict[str, float]], evaluation: Evaluation
) -> str:
    """The page as HTML text, from the content of scores.json, model.json and history.jsonl, and the pictures."""
    score = scores["score"]
    data = card["data"]
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>ganflow: {html.escape(data["name"])}</title><style>{STYLE}</style>
<h1>{html.escape(data["name"])}: {html.escape(card["architecture"]["name"])} generator</h1>
<p class="score">{score} = {scores[score]:.3f} ± {scores[f"{score}_se"]:.3f}</p>
<p>{scores["protocol"]["generated_count"]:,} generated images against {scores["protocol"]["real_count"]:,} held-out
real ones; after {card["images_seen"]:,} training images. Lower is better; ± is one standard error.</p>
{_warnings(scores.get("warnings", []))}
<h2>Scores</h2>{_numbers(scores)}
{_pictures(evaluation)}
<h2>Training</h2>
<h3>Losses</h3>{_curves(history, ("loss_d", "loss_g"))}
<h3>What D believes</h3>{_curves(history, ("d_real", "d_fake"))}
<h2>Parameters</h2>{table(card["parameters"])}
<h2>Data</h2>{table(data)}
<h2>Protocol</h2>{table(scores["protocol"])}
<h2>Model</h2>{table({**card["architecture"], "generator_sha256": card["generator_sha256"]})}
</html>
"""


def with_passport(page: str, passport: dict[str, Any]) -> str:
    """The page with the passport behind the rest: it is known only when the model is registered."""
    rows = {key: value if isinstance(value, dict) else {"": value} for key, value in passport.items()}
    tables = "".join(f"<h3>{html.escape(key)}</h3>{table(values)}" for key, values in rows.items())
    return page.replace("</html>", f"<h2>Passport</h2>{tables}\n</html>")


def _numbers(scores: dict[str, Any]) -> str:
    """Every score, with its standard error where it has one, and what it says."""
    rows = []
    for metric, meaning in MEANINGS.items():
        name = scores["score"].replace("fid", metric, 1)
        if name in scores:
            error = f" ± {scores[f'{name}_se']:.4g}" if f"{name}_se" in scores else ""
            rows.append(f"<tr><th>{html.escape(name)}<td>{scores[name]:.4g}{error}<td>{meaning}")
    return f"<table>{''.join(rows)}</table>"


def _warnings(warnings: list[str]) -> str:
    return "".join(f"<p><strong>Warning:</strong> {html.escape(text)}</p>" for text in warnings)


def _pictures(evaluation: Evaluation) -> str:
    """The pictures that there are, each under its title."""
    shown = {
        "Samples": (evaluation.samples, "grid of generated images"),
        "Classes": (evaluation.classes, "a row of generated images a class"),
        "Between samples": (evaluation.interpolation, "rows of images between two samples"),
        "Nearest training images": (evaluation.neighbours, "samples, each with its nearest real image to the right"),
    }
    return "\n".join(picture(title, text, path.read_bytes()) for title, (path, text) in shown.items() if path.exists())


def _curves(history: list[dict[str, float]], names: tuple[str, ...], width: int = 800, height: int = 220) -> str:
    """Metrics over images seen, as inline SVG."""
    values = [record[name] for record in history for name in names]
    bottom, top = min(0.0, *values), max(values)
    scale = height / ((top - bottom) or 1.0)
    end = history[-1]["images"]
    lines = []
    for name, colour in zip(names, COLOURS, strict=False):
        points = " ".join(
            f"{record['images'] / end * width:.1f},{(top - record[name]) * scale:.1f}" for record in history
        )
        lines.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{points}"/>')
    legend = ", ".join(f'<span style="color:{c}">{n}</span>' for n, c in zip(names, COLOURS, strict=False))
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{" and ".join(names)}">'
        f'<rect width="{width}" height="{height}" fill="#f6f6f6"/>{"".join(lines)}</svg>'
        f"<p>{legend}: {bottom:.2f} to {top:.2f} over {end:,.0f} images</p>"
    )

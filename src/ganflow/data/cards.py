"""The data card: what a set is and what the checks found in it, as JSON, as a picture and as one HTML page."""

import html
from typing import Any

import numpy as np

from ganflow.artifacts import Prepared, write_json, write_text
from ganflow.images import AnyImages, Images, grid, png, write_png
from ganflow.page import STYLE, picture, table

SHOWN = 100
COLUMNS = 20
TITLES = {
    "duplicates": "equal an earlier image",
    "near_duplicates": "look like an earlier image",
    "leaked": "held out, and equal or like a training image",
    "label_conflicts": "equal or like an image of another class",
    "blank": "of one colour",
}


def write_cards(folder: Prepared, card: dict[str, Any], findings: dict[str, Any], images: AnyImages) -> None:
    """Write findings.json, montage.png and card.html; equal arguments give equal bytes."""
    write_json(folder.findings, findings)
    write_png(folder.montage, _montage(images, card["train"]))
    write_text(folder.page, _page(folder, card, findings, images))


def _montage(images: AnyImages, train: int) -> Images:
    """Images from all over the training split."""
    rows = np.unique(np.linspace(0, train - 1, SHOWN).round().astype(np.int64))
    return grid(images[rows], min(COLUMNS, len(rows)))


def _page(folder: Prepared, card: dict[str, Any], findings: dict[str, Any], images: AnyImages) -> str:
    name = html.escape(card["name"])
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>ganflow: data card of {name}</title><style>{STYLE}</style>
<h1>{name}</h1>
<p>{card["train"]:,} training and {card["held_out"]:,} held-out images of {card["resolution"]} x {card["resolution"]}
pixels, {"grey" if card["channels"] == 1 else "RGB"}; {card["rejected_count"]:,} files were left out.</p>
{picture("Training images", "grid of training images", folder.montage.read_bytes())}
<h2>Checks</h2>{_checks(findings)}
{_examples(findings, images)}
<h2>Classes</h2>{_classes(card, findings)}
<h2>Raw images</h2><h3>Sizes</h3>{table(findings["sizes"])}<h3>Modes</h3>{table(findings["modes"])}
<h2>Left out</h2>{table({entry["file"]: entry["reason"] for entry in card["rejected"][:SHOWN]})}
<h2>Parameters</h2>{table(card["parameters"])}
<h2>Identity</h2>{table({key: card[key] for key in ("raw_md5", "images_md5", "labels_md5")})}
</html>
"""


def _checks(findings: dict[str, Any]) -> str:
    counts = {words: findings[name] for name, words in (TITLES | {"upscaled": "raw images that were enlarged"}).items()}
    return table({words: f"{found['count']:,} ({found['fraction']:.2%})" for words, found in counts.items()})


def _examples(findings: dict[str, Any], images: AnyImages) -> str:
    """The examples of each finding; of pairs, the earlier image stands above the later one."""
    shown = []
    for name, words in TITLES.items():
        examples = np.array(findings[name]["examples"], np.int64)
        if examples.size:
            sheet = grid(images[examples.T.ravel()], len(examples))
            shown.append(picture(f"Examples: {words}", words, png(sheet, 2)))
    return "\n".join(shown)


def _classes(card: dict[str, Any], findings: dict[str, Any]) -> str:
    if card["class_counts"] is None:
        return "<p>The set has no labels.</p>"
    counts = card["class_counts"]
    rows = {
        name: f"{counts['train'][name]:,} training, {counts['held_out'][name]:,} held out" for name in card["classes"]
    }
    return table(rows | {"largest over smallest": f"{findings['classes']['ratio']:.3g}"})

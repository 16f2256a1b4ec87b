"""The report's page: what it draws, and what it needs."""

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ganflow.artifacts import Evaluation
from ganflow.report import write_report

SCORES: dict[str, Any] = {
    "score": "fid_classifier_256",
    "fid_classifier_256": 12.5,
    "fid_classifier_256_se": 0.25,
    "protocol": {"generated_count": 256, "real_count": 400},
}
CARD: dict[str, Any] = {
    "architecture": {"name": "dcgan"},
    "data": {"name": "shapes", "classes": ["square", "cross"]},
    "generator_sha256": "0" * 64,
    "images_seen": 640,
    "parameters": {"generator_loss": "minimax"},
}
LOSSES = [(1.4, -0.7), (0.9, -0.35), (0.5, -0.1), (0.6, -0.2)]
HEIGHT = 220


@pytest.fixture
def samples(tmp_path: Path) -> Evaluation:
    folder = Evaluation(tmp_path)
    for path in (folder.samples, folder.interpolation, folder.neighbours):
        Image.new("L", (8, 8), 128).save(path)
    return folder


def history(losses: list[tuple[float, float]]) -> list[dict[str, float]]:
    return [
        {"images": 160.0 * (i + 1), "loss_d": d, "loss_g": g, "d_real": math.exp(-d), "d_fake": 1 - math.exp(g)}
        for i, (d, g) in enumerate(losses)
    ]


def curves(page: str) -> list[list[float]]:
    """The heights of each curve's points, down from the picture's top: loss_d, loss_g, d_real, d_fake."""
    return [
        [float(point.split(",")[1]) for point in points.split()] for points in re.findall(r' points="([^"]+)"', page)
    ]


def test_the_losses_of_minimax_lie_inside_the_picture(samples: Evaluation) -> None:
    page = write_report(SCORES, CARD, history(LOSSES), samples)
    loss_d, loss_g, *_ = curves(page)
    assert (loss_d[0], loss_g[0]) == (0, HEIGHT)  # the largest and the smallest
    assert all(0 <= y <= HEIGHT for curve in curves(page) for y in curve)
    assert loss_g == pytest.approx([(1.4 - g) / 2.1 * HEIGHT for _, g in LOSSES], abs=0.05)
    assert "-0.70 to 1.40 over 640 images" in page


@pytest.mark.parametrize(
    ("losses", "labels"),
    [([(1.4, 0.7), (1.2, 0.9)], "0.00 to 1.40"), ([(-1.0, -0.7)], "-1.00 to -0.70"), ([(0.0, 0.0)], "0.00 to 0.00")],
)
def test_both_ends_of_the_scale_are_said(samples: Evaluation, losses: list[tuple[float, float]], labels: str) -> None:
    page = write_report(SCORES, CARD, history(losses), samples)
    assert f"{labels} over" in page
    assert all(0 <= y <= HEIGHT for curve in curves(page) for y in curve)


class References(HTMLParser):
    """Everything that a page would fetch, and every element it has."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]


def test_the_page_needs_no_other_file(samples: Evaluation) -> None:
    page = write_report(SCORES, CARD, history(LOSSES), samples)
    references = References(page)
    assert references.found
    assert all(reference.startswith("data:image/png;base64,") for reference in references.found)
    assert "script" not in references.tags
    assert "url(" not in page
    assert "@import" not in page


def test_what_users_write_is_text(samples: Evaluation) -> None:
    data = {"name": "<b>", "classes": ["<b>", '"><b>']}
    card = CARD | {"data": data, "parameters": {"<b>": "<b>"}, "architecture": {"name": "<b>", "<b>": 1}}
    page = write_report(SCORES, card, history(LOSSES), samples)
    assert "&lt;b&gt;" in page
    assert "b" not in References(page).tags

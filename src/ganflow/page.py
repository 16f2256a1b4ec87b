"""The look of the HTML pages: each needs no other file and no network."""

import base64
import html
import json
from typing import Any

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; } td, th { padding: .2rem 1rem .2rem 0; text-align: left; vertical-align: top; }
td { font-variant-numeric: tabular-nums; } img { image-rendering: pixelated; max-width: 100%; }
svg { width: 100%; height: auto; } code { overflow-wrap: anywhere; } .score { font-size: 2rem; }
"""


def table(values: dict[str, Any]) -> str:
    """Names and values, which are text or become JSON."""
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    rows = (f"<tr><th>{html.escape(key)}<td><code>{html.escape(text)}</code>" for key, text in texts.items())
    return f"<table>{''.join(rows)}</table>"


def picture(title: str, alternative: str, png: bytes) -> str:
    """A PNG within the page, under its title."""
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f'<h2>{title}</h2>\n<img alt="{alternative}" src="{source}">'

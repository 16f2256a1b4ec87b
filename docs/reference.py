"""Markdown of the reference pages, from the code; cog writes it into docs/*.md (`make fix`, `make check`)."""

import argparse
import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from ganflow.cli import build_parser
from ganflow.config import Params
from ganflow.resources import Profile, Toleration


def parameters() -> str:
    """A table a section of params.yaml."""
    sections = {section.alias or name: section.annotation for name, section in Params.model_fields.items()}
    sections |= {"resources.profiles.NAME": Profile, "resources.profiles.NAME.tolerations": Toleration}
    return "\n\n".join(table for title, model in sections.items() for table in _tables(title, model))


def _tables(title: str, model: Any) -> Iterator[str]:
    """Of a section, and of the sections in it."""
    rows = ["| parameter | default | allowed | meaning |", "| --- | --- | --- | --- |"]
    properties = model.model_json_schema()["properties"]
    inner = {key: field.annotation for key, field in model.model_fields.items() if isinstance(field.default, BaseModel)}
    for key, field in model.model_fields.items():
        if key not in inner:
            meaning = " ".join((field.description or "").split())
            rows.append(f"| `{key}` | {_default(field.default)} | {_allowed(properties[key])} | {meaning} |")
    yield f"## {title}\n\n{' '.join((model.__doc__ or '').split())}\n\n" + "\n".join(rows)
    for key, section in inner.items():
        yield from _tables(f"{title}.{key}", section)


def commands() -> str:
    """The help of every verb."""
    return "\n\n".join(f"## {parser.prog}\n\n```text\n{parser.format_help()}```" for parser in _parsers(build_parser()))


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=100)
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                yield from _parsers(verb)


def _default(value: Any) -> str:
    """As JSON; of sections by name, the names."""
    if value is PydanticUndefined:
        return "required"
    named = isinstance(value, dict) and any(isinstance(one, BaseModel) for one in value.values())
    return ", ".join(f"`{name}`" for name in value) if named else f"`{json.dumps(value)}`"


def _allowed(schema: dict[str, Any]) -> str:
    """What a JSON schema allows, in a few words."""
    if any("$ref" in schema.get(part, {}) for part in ("items", "additionalProperties")):
        return "see below"
    if "anyOf" in schema:
        return " or ".join(_allowed(part) for part in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[key]:g}" for key, sign in bounds.items() if key in schema]
    return " ".join([schema["type"], *limits])

"""The reference of all settings, made from `gateway.config`."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from gateway.config import Settings

_HEAD = """# Configuration

Made by `gateway config reference` from `gateway/config.py`; do not edit.

Settings come from a TOML file (`gateway serve --config FILE`, or the variable `GATEWAY_CONFIG`) and from the environment, which
wins. The variable of a setting is `GATEWAY_` and its path in capitals, with two underscores between the parts: `store.path` is
`GATEWAY_STORE__PATH`. Lists and tables are given as JSON. A wrong or unknown setting stops the server at its start, with its name.
`gateway config check` tells beforehand.

| setting | default | meaning |
|---|---|---|
"""


_INSIDE: dict[Any, str] = {dict: ".NAME.", tuple: "[]."}
"""How a path goes on inside of a setting of a type."""


def reference() -> str:
    """Return every setting with its default and meaning, as Markdown."""
    rows = (f"| `{name}` | {default} | {meaning} |" for name, default, meaning in _settings(Settings, ""))
    return _HEAD + "\n".join(rows) + "\n"


def _settings(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        path, sections = f"{prefix}{name}", _sections(field.annotation)
        if not sections:
            yield path, _default(field), " ".join((field.description or "").split())
        for section in sections:
            for inner, default, meaning in _settings(
                section, f"{path}{_INSIDE.get(get_origin(field.annotation), '.')}"
            ):
                yield inner, default, f"{_kind(section)}{meaning}" if len(sections) > 1 else meaning


def _sections(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _sections(part)]


def _kind(section: type[BaseModel]) -> str:
    """Return for which kind of provider the settings of a section are."""
    (kind,) = get_args(section.model_fields["provider"].annotation)
    return f"(`{kind}`) "


def _default(field: FieldInfo) -> str:
    value = field.default
    if field.is_required():
        return "required"
    if value is PydanticUndefined or value is None or value == ():
        return ""
    if isinstance(value, StrEnum | Path):
        return f'`"{value}"`'
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"

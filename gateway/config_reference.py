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


def reference() -> str:
    """Return every setting with its default and meaning, as Markdown."""
    rows = (f"| `{name}` | {default} | {meaning} |" for name, default, meaning in _settings(Settings, ""))
    return _HEAD + "\n".join(rows) + "\n"


def _settings(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        path, section = f"{prefix}{name}", _section(field.annotation)
        if section is None:
            yield path, _default(field), " ".join((field.description or "").split())
        elif get_origin(field.annotation) is dict:
            yield from _settings(section, f"{path}.NAME.")
        elif get_origin(field.annotation) is tuple:
            yield from _settings(section, f"{path}[].")
        else:
            yield from _settings(section, f"{path}.")


def _section(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _section(part))), None)


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
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"

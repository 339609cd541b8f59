"""Plain Python values on the wire: dictionaries as `google.protobuf.Struct`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.struct_pb2 import ListValue, Struct, Value

_LARGEST_EXACT = 2**53
"""A Struct holds numbers as float64; integers up to this survive."""


def to_struct(values: Mapping[str, Any]) -> Struct:
    """Return a dictionary as a Struct.

    Args:
        values: Text keys; values of None, bool, int, float, str, lists, tuples and dictionaries of those, numpy numbers
            and arrays, and enum members of those types.

    Raises:
        ValueError: A value cannot be sent; the message begins with its path.
    """
    struct = Struct()
    for key, value in values.items():
        _set(struct.fields[_key(key, "")], value, str(key))
    return struct


def from_struct(struct: Struct) -> dict[str, Any]:
    """Return a Struct as a dictionary of plain values. Whole numbers come back as int."""
    return {key: _plain(value) for key, value in struct.fields.items()}


def _key(key: object, path: str) -> str:
    if not isinstance(key, str):
        raise ValueError(f"{path or 'the dictionary'}: the key {key!r} is not text")  # noqa: TRY004 - one kind of error
    return key


def _set(target: Value, value: Any, path: str) -> None:
    if hasattr(value, "tolist"):  # numpy numbers and arrays
        value = value.tolist()
    if value is None:
        target.null_value = 0  # type: ignore[assignment]
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, str):
        target.string_value = str.__str__(value)
    elif isinstance(value, int | float):
        target.number_value = _number(value, path)
    elif isinstance(value, Mapping):
        target.struct_value.SetInParent()
        for key, item in value.items():
            _set(target.struct_value.fields[_key(key, path)], item, f"{path}.{key}")
    elif isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        target.list_value.SetInParent()
        for index, item in enumerate(value):
            _set(target.list_value.values.add(), item, f"{path}[{index}]")
    else:
        raise ValueError(f"{path}: a {type(value).__name__} cannot be sent; use numbers, text, lists and dictionaries")


def _number(value: float, path: str) -> float:
    if isinstance(value, int) and abs(value) > _LARGEST_EXACT:
        raise ValueError(f"{path}: {value} is beyond 2**53 and would be rounded; send it as text")
    if not math.isfinite(value):
        raise ValueError(f"{path}: {value} has no form in JSON; send it as text")
    return float(value)


def _plain(value: Value) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= _LARGEST_EXACT else number
        case "struct_value":
            return from_struct(value.struct_value)
        case "list_value":
            return _plain_list(value.list_value)
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            return None


def _plain_list(values: ListValue) -> list[Any]:
    return [_plain(item) for item in values.values]

"""Messages of the contract as plain data for JSON: numbers as numbers, times as ISO 8601, enums without their prefix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from google.protobuf import duration_pb2, json_format, struct_pb2, timestamp_pb2
from google.protobuf.message import Message


def plain(message: Message) -> Any:
    """Return a message as plain data.

    Each field is there, under the name that the contract gives it; one that is not set is null. Durations are in seconds, bytes
    are hexadecimal. Two places are friendlier than the canonical JSON form of protobuf: 64-bit numbers are numbers, and enum values
    are words such as `DONE`.

    Args:
        message: Any message of the contract.
    """
    if isinstance(message, timestamp_pb2.Timestamp):
        return message.ToDatetime(tzinfo=UTC).isoformat()
    if isinstance(message, duration_pb2.Duration):
        return message.seconds + message.nanos / 1e9
    if isinstance(message, struct_pb2.Struct):
        return json_format.MessageToDict(message)
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields if _is_shown(message, field)}


def _is_shown(message: Message, field: Any) -> bool:
    """True unless the field is a member of a choice (`oneof`) that was not made."""
    choice = field.containing_oneof
    is_optional = choice is not None and len(choice.fields) == 1 and choice.name == f"_{field.name}"
    return choice is None or is_optional or message.HasField(field.name)


def _field(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if isinstance(value, Mapping):
        return dict(value)
    if field.is_repeated:
        return [_value(item, field) for item in value]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _value(value, field)


def _value(value: Any, field: Any) -> Any:
    if isinstance(value, Message):
        return plain(value)
    if isinstance(value, bytes):
        return value.hex()
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name.removeprefix(_prefix(field.enum_type.name)) if known else value
    return value


def _prefix(enum_name: str) -> str:
    """Return what the values of an enum begin with, such as `JOB_STATUS_` for `JobStatus`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", enum_name).upper() + "_"

"""Times on the wire and times for people."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp


def local_datetime(timestamp: Timestamp) -> datetime:
    """Return a wire time as an aware datetime in the local zone."""
    return timestamp.ToDatetime(tzinfo=UTC).astimezone()


def optional_time(message: Message, field: str) -> datetime | None:
    """Return a time field of a message as an aware local datetime, or None if it is not set."""
    return local_datetime(getattr(message, field)) if message.HasField(field) else None


def optional_seconds(message: Message, field: str) -> float | None:
    """Return a duration field of a message in seconds, or None if it is not set."""
    return seconds(getattr(message, field)) if message.HasField(field) else None


def seconds(duration: Duration) -> float:
    """Return a wire duration in seconds."""
    return float(duration.seconds) + duration.nanos * 1e-9


def to_duration(value: float) -> Duration:
    """Return a number of seconds as a wire duration, rounded to nanoseconds."""
    whole = math.floor(value)
    nanos = round((value - whole) * 1e9)
    return Duration(seconds=whole + nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


def parse_datetime(value: datetime | str) -> datetime:
    """Return a point in time as an aware datetime.

    Args:
        value: A datetime, or text in any form that `dateutil` reads. Without a zone it is local time; an offset is
            honoured.

    Raises:
        TypeError: It is neither.
        ValueError: The text is no date.
    """
    if isinstance(value, str):
        from dateutil import parser

        value = parser.parse(value)
    if not isinstance(value, datetime):
        raise TypeError(f"expected a datetime or a text, not {type(value).__name__}")
    return value.astimezone()


def to_timestamp(value: datetime | str) -> Timestamp:
    """Return a point in time as a wire time. Arguments and errors are those of `parse_datetime`."""
    timestamp = Timestamp()
    timestamp.FromDatetime(parse_datetime(value).astimezone(UTC))
    return timestamp


def to_local(value: Any) -> datetime | None:
    """Return a point in time as an aware local datetime; None and empty text give None."""
    return parse_datetime(value) if value else None


def duration_text(length: float) -> str:
    """Return a length of time for people: its two largest units. Below a second, and for the past, `0 sec`.

    Args:
        length: Seconds.
    """
    total = max(0, int(length))
    days, rest = divmod(total, 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, secs = divmod(rest, 60)
    if days:
        return f"{days} days {hours} hrs"
    if hours:
        return f"{hours} hrs {minutes} min"
    if minutes:
        return f"{minutes} min {secs} sec"
    return f"{secs} sec"


def time_until(moment: datetime | None) -> str:
    """Return for people how far away a moment is; empty for None."""
    return "" if moment is None else duration_text((moment - datetime.now(UTC)).total_seconds())

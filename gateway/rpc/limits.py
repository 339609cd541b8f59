"""Limits of the wire that the server announces and keeps."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may send, and what it gets at a time."""

    heartbeat_interval: float = 15.0
    """Longest time between two messages of a watch, in seconds."""
    chunk_bytes: int = 1024 * 1024
    """Size of the chunks of a download, and the largest chunk of an upload."""
    max_request_bytes: int = 16 * 1024 * 1024
    """Largest request message."""
    max_streams_per_caller: int = 5_000
    """Most watches that one caller has open at a time."""
    max_transfers_per_caller: int = 16
    """Most uploads and downloads that one caller has under way at a time."""
    stalled_stream_timeout: float = 300.0
    """Seconds after which a stream ends whose reader takes nothing."""
    max_program_bytes: int = 256 * 1024 * 1024
    """Largest program, however it comes."""
    max_response_bytes: int = 4 * 1024 * 1024 - 64 * 1024
    """Largest result that is sent in one message: what every gRPC client takes by default, less the rest of the message."""

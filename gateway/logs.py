"""Structured logs, without secrets."""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType
from typing import Any

import structlog

from gateway.config import LogSettings
from gateway.domain.redaction import redact

_log = structlog.get_logger(__name__)

_MADE_BY_STRANGERS = (
    "Invalid encoding on",  # copies metadata that are no text: it may be a key with a typing error
    "ExecuteBatchError raised in core",  # the caller went away before it had its answer
    "Failed sending error status from server",  # the same
)
"""Beginnings of what gRPC logs as errors."""


def configure_logs(settings: LogSettings) -> None:
    """Send all logs, the libraries' too, to standard error in one form, and take secrets out of every line.

    Exceptions that nobody catches are logged like any other.
    """
    text = settings.format == "text" or (settings.format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderers: list[Any] = (
        [structlog.dev.ConsoleRenderer()]
        if text
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = _Handler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            # The whole line is looked through: every field, the message, the traceback.
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers, _redact_line],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    # What a migration does is of interest only where it goes wrong.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_of_the_server)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda args: _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


class _Handler(logging.StreamHandler[Any]):
    """Writes lines."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Tell that a record cannot be written, and not what is in it, as the parent would: it has not been redacted."""
        self.stream.write(f"a log record of {record.name!r} cannot be written\n")


def _redact_line(_logger: object, _method: str, line: Any) -> str:
    return redact(line)


def _is_of_the_server(record: logging.LogRecord) -> bool:
    """Return whether a record of gRPC tells of more than what strangers do, who could fill the log with that."""
    return not str(record.msg).startswith(_MADE_BY_STRANGERS)


def _log_uncaught(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    _log.critical("uncaught_exception", exc_info=(kind, error, traceback))

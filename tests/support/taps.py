"""Lets the watch for secrets hear what tests are told: answers and errors of every call, output of commands, logs, exceptions."""

from __future__ import annotations

import logging
import pickle
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import grpc
from grpc import aio
from qgateway import _translate

from tests.support.canaries import API_KEY, JSON_WEB_TOKEN
from tests.support.leaks import WATCH
from tests.support.tapped_channels import TappedAioChannel, TappedChannel

_MAKERS = ({"keys", "create"}, {"keys", "generate"}, {"init"})
"""Words of the commands whose output is a key."""


@contextmanager
def tapped() -> Iterator[None]:
    """Hear everything from here to the end of the block."""
    with ExitStack() as stack:
        for module, tap in ((grpc, TappedChannel), (aio, TappedAioChannel)):
            for name in ("insecure_channel", "secure_channel"):
                make = getattr(module, name)
                stack.enter_context(mock.patch.object(module, name, _tapping(make, tap)))
        stack.enter_context(mock.patch.object(subprocess, "run", _heard_run(subprocess.run)))
        stack.enter_context(mock.patch.object(_translate, "make_error", _pickling(_translate.make_error)))
        stack.enter_context(_heard_logs())
        yield


class _Ear:
    """Takes note of what passes through channels, and plants the credentials that callers show."""

    def sent(self, metadata: Any) -> None:
        for name, value in metadata or ():
            if name == "authorization":
                credential = (value if isinstance(value, str) else value.decode("latin-1")).rpartition(" ")[2].encode()
                if API_KEY.fullmatch(credential):
                    WATCH.canaries.plant("an API key of a caller", credential)
                elif JSON_WEB_TOKEN.fullmatch(credential):
                    WATCH.canaries.plant("a token of a caller", credential)

    def received(self, method: str, message: bytes) -> None:
        if method.endswith("/CreateApiKey"):
            message = WATCH.plant_made_keys("an API key that the gateway made", message)
        WATCH.hear(f"an answer of {method}", message)

    def ended(self, method: str, *told: Any) -> None:
        WATCH.hear(f"the end of {method}", repr(told))
        for metadata in told:
            if metadata and not isinstance(metadata, str):
                for _, value in metadata:
                    WATCH.hear(f"the metadata of {method}", value)


_EAR = _Ear()


def _tapping(make: Callable[..., Any], tap: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments, **options: tap(make(*arguments, **options), _EAR)


def _heard_run(run: Callable[..., Any]) -> Callable[..., Any]:
    def heard(command: Any, *arguments: Any, **options: Any) -> Any:
        done = run(command, *arguments, **options)
        for output in (done.stdout, done.stderr):
            if output:
                told = output.encode(errors="surrogateescape") if isinstance(output, str) else output
                if any(words <= set(command) for words in _MAKERS):
                    told = WATCH.plant_made_keys("an API key that a command made", told)
                WATCH.hear("the output of a command", told)
        return done

    return heard


def _pickling(make: Callable[..., Any]) -> Callable[..., Any]:
    def made(kind: Any, text: str, error: Any, job_id: str = "") -> Any:
        exception = make(kind, text, error, job_id)
        WATCH.hear("an exception, pickled", pickle.dumps((exception, error)))
        WATCH.hear("an exception, printed", f"{exception!r} {exception} {error!r} {error.diagnostics()}")
        return exception

    return made


@contextmanager
def _heard_logs() -> Iterator[None]:
    """Hear the logs of the Python client, at every level, and those of all others at theirs."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            WATCH.hear(f"the log of {record.name}", f"{record.getMessage()} {record.args!r} {record.exc_text or ''}")

    handler, client, root = Handler(), logging.getLogger("qgateway"), logging.getLogger()
    level = client.level
    client.setLevel(logging.DEBUG)
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        client.setLevel(level)

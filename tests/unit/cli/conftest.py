"""The command `qgateway` as a process, and a fake gateway for it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.unit.client_transport.fake_gateway import FakeGateway

API_KEY = "canary-0123456789"

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def fake() -> Iterator[FakeGateway]:
    gateway = FakeGateway()
    yield gateway
    gateway.stop()


@pytest.fixture
def environment(fake: FakeGateway) -> dict[str, str]:
    """The environment of the command: where the fake is, and a key."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("QGATEWAY_")}
    return {**inherited, "QGATEWAY_TARGET": fake.target, "QGATEWAY_API_KEY": API_KEY, "TZ": "UTC"}


@pytest.fixture
def qgateway(environment: dict[str, str]) -> Command:
    """Run the command with arguments, and text for its input; return what became of it."""

    def run(*arguments: str, input: str | bytes = "", **variables: str) -> subprocess.CompletedProcess[str]:  # noqa: A002
        data = input.encode() if isinstance(input, str) else input
        done = subprocess.run(
            [sys.executable, "-c", "from qgateway.cli import main; main()", *arguments],
            input=data,
            capture_output=True,
            env={**environment, **variables},
            timeout=60,
            check=False,
        )
        assert API_KEY not in done.stdout.decode() + done.stderr.decode()
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return run

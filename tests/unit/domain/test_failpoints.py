from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.domain.failpoints import FAILPOINTS, VARIABLE, armed, async_failpoint, failpoint

_CALL = re.compile(r'failpoint\(\s*"([^"]+)"\s*\)')


def run(armed_with: str, *lines: str) -> subprocess.CompletedProcess[str]:
    code = "\n".join(("from gateway.domain.failpoints import *", *lines, "print('alive')"))
    environment = {**os.environ, VARIABLE: armed_with}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def test_the_listed_failpoints_are_those_of_the_server() -> None:
    root = Path(__file__).parents[3] / "gateway"
    used = {name for path in root.rglob("*.py") for name in _CALL.findall(path.read_text())}
    assert used == set(FAILPOINTS)


async def test_nothing_happens_at_a_failpoint_that_is_not_armed() -> None:
    assert armed() == ()
    for name in FAILPOINTS:
        failpoint(name)
        await async_failpoint(name)


def test_an_armed_failpoint_kills_the_process_at_the_time_that_was_named() -> None:
    ended = run(
        "send.before=kill@2",
        "failpoint('send.before')",
        "print('once', flush=True)",
        "failpoint('send.before')",
    )
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, "once\n")


def test_an_armed_failpoint_raises_or_holds_up() -> None:
    ended = run(
        "send.before=error; send.again=delay:0.2",
        "import asyncio, time",
        "began = time.monotonic()",
        "asyncio.run(async_failpoint('send.again')); failpoint('send.again')",
        "assert time.monotonic() - began >= 0.4",
        "try: failpoint('send.before')",
        "except Unavailable as error: print(error)",
    )
    assert ended.stdout.endswith("alive\n"), ended.stderr
    assert "send.before" in ended.stdout


@pytest.mark.parametrize("text", ["no.such=kill", "send.before=explode", "send.before"])
def test_what_names_no_failpoint_or_action_is_refused(text: str) -> None:
    ended = run(text)
    assert ended.returncode == 1
    assert text in ended.stderr

"""Places where tests break the server, to prove what it promises.

Each place has a name in `FAILPOINTS` and calls `failpoint` (or `async_failpoint` on the event loop). Nothing happens there unless
the variable `GATEWAY_FAILPOINTS` names it when the server starts: entries `NAME=ACTION` with `;` between them, where the action is

| action | meaning |
|---|---|
| `kill` | the process is killed (SIGKILL): it can do nothing about it |
| `error` | `Unavailable` is raised |
| `delay:SECONDS` | the caller is held up; `failpoint` holds up its whole thread |

and `@N` at its end means: the Nth time only. `store.before_commit=kill@3` kills the server before the third commit that
changes a job.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.domain.errors import Unavailable

VARIABLE = "GATEWAY_FAILPOINTS"
"""Environment variable that arms failpoints."""

FAILPOINTS: Mapping[str, str] = MappingProxyType(
    {
        "store.before_commit": "changes of jobs are about to be committed",
        "store.after_commit": "changes of jobs are committed, and nobody has heard of it",
        "submit.before_store": "a new job was read, and is not stored yet",
        "submit.stored": "a new job is stored, and its provider was not told",
        "send.before": "the provider is about to be told of a job",
        "send.answered": "the provider answered, and that is not stored yet",
        "send.accepted": "it is stored that the provider has the job, and nobody follows it yet",
        "send.refused": "the provider did not take the job for now, and that is not stored yet",
        "send.doubted": "the provider's answer was lost, and that is not stored yet",
        "send.again": "a waiting job is stored as sent, and its provider was not told",
        "doubt.look": "the provider is about to be asked for a job in doubt",
        "doubt.found": "the provider was found to have the job, and that is not stored yet",
        "doubt.adopted": "it is stored that the provider has the job after all, and nobody follows it yet",
        "doubt.not_taken": "it is stored that the provider does not have the job, and it does not wait to be sent yet",
        "doubt.twin": "it is told that there is a twin, and it is not cancelled",
        "doubt.twin_cancelled": "a twin was cancelled, and all is settled but the memory of it",
        "cancel.stored": "a caller's wish to cancel is stored, and the provider was not told",
        "cancel.answered": "the provider was told to cancel, and its answer is not stored yet",
        "poll.told": "the provider told of jobs, and nothing of that is stored yet",
        "result.before_fetch": "a job is done, and its result is still at the provider",
        "result.read": "a result is on disk as the provider gave it out, and was not understood yet",
        "result.fetched": "a result was read and understood, and is not stored yet",
        "result.stored": "a result is stored, and the provider's copy was not released",
        "run.ended": "a job has run on this machine, and nobody was told",
        "watch.tell": "a watcher is about to be told of a change that others may have heard of",
    }
)
"""All places by name, and what is the case there."""


@dataclass(slots=True)
class _Armed:
    """What happens at a failpoint."""

    action: str
    seconds: float
    only: int
    """Which time; 0: each time."""
    hits: int = 0

    def is_due(self) -> bool:
        self.hits += 1
        return self.only in (0, self.hits)


def failpoint(name: str) -> None:
    """Do what this failpoint is armed with, if it is.

    Raises:
        Unavailable: It is armed with `error`.
    """
    if _ARMED and (armed := _due(name)) is not None:
        time.sleep(armed.seconds)


async def async_failpoint(name: str) -> None:
    """Do the same without holding up anybody but the caller."""
    if _ARMED and (armed := _due(name)) is not None:
        await asyncio.sleep(armed.seconds)


def armed() -> tuple[str, ...]:
    """Return the names of the failpoints that are armed."""
    return tuple(_ARMED)


def _due(name: str) -> _Armed | None:
    """Kill the process or raise, if that is what is due; return what else is."""
    armed = _ARMED.get(name)
    if armed is None or not armed.is_due():
        return None
    if armed.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if armed.action == "error":
        raise Unavailable(f"The failpoint {name!r} is armed with an error.")
    return armed


def _parse(text: str) -> dict[str, _Armed]:
    """Read the variable.

    Raises:
        ValueError: It names a failpoint or an action that there is not.
    """
    armed = {}
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        name, _, rest = entry.partition("=")
        what, _, only = rest.partition("@")
        action, _, seconds = what.partition(":")
        if name not in FAILPOINTS or action not in {"kill", "error", "delay"}:
            raise ValueError(f"{VARIABLE}: no such failpoint or action: {entry!r}")
        armed[name] = _Armed(action, float(seconds or 0), int(only or 0))
    return armed


_ARMED = _parse(os.environ.get(VARIABLE, ""))

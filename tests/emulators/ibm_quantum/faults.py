"""Faults: what the server does wrong, to which calls, and how often."""

from __future__ import annotations

import asyncio
import fnmatch
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tests.emulators.ibm_quantum.accounts import Accounts
from tests.emulators.ibm_quantum.calls import Call, route_of
from tests.emulators.ibm_quantum.codes import Code
from tests.emulators.ibm_quantum.wire import ApiError, Shape

Answer = Callable[[], Awaitable[web.StreamResponse]]

REORDER = web.RequestKey("reorder", random.Random)
"""Set on a request whose listing has to be shuffled."""

_HEAD_END = b"\r\n\r\n"

_LINGER_NOT = struct.pack("ii", 1, 0)
"""Closing a socket that does not linger sends a reset."""


class FaultSpec(BaseModel):
    """What is to go wrong.

    | action | meaning | fields |
    |---|---|---|
    | `respond` | answer with an error | `status`, `retry_after`, `location`, `shape`, `code`, `message` |
    | `drop` | close the connection without an answer | `reset`, `act_after_seconds` |
    | `hang` | answer nothing for a while, then close the connection | `seconds` |
    | `cut` | send a part of the reply, then close the connection | `bytes` or `body_bytes`, `reset`, `seconds` |
    | `garble` | answer with another body | `body`, `pad`, `content_type`, `status` |
    | `delay` | act and answer later | `seconds` |
    | `reorder` | shuffle a listing | |
    """

    model_config = ConfigDict(extra="forbid")

    route: str = "*"
    """Which calls: a glob over `METHOD /path`, with the path either as routed (`GET /jobs/{job_id}`) or as asked for."""

    instance: str | None = None
    """Only calls to this instance (its CRN or its name)."""

    action: Literal["respond", "drop", "hang", "cut", "garble", "delay", "reorder"]

    when: Literal["before", "after"] = "before"
    """Whether `respond`, `drop` and `hang` come before or after the service acted; the others come after."""

    times: int | None = Field(default=1, ge=1)
    """How many calls; None: all, until the fault is removed."""

    skip: int = Field(default=0, ge=0)
    """How many matching calls pass before the first that goes wrong."""

    follows: int | None = None
    """Id of another fault: nothing goes wrong before that has hit a call."""

    probability: float = Field(default=1.0, ge=0, le=1)
    """How likely a matching call goes wrong."""

    seed: int = 0
    """Makes what `probability` and `reorder` decide repeatable."""

    status: int | None = Field(default=None, ge=200, le=599)
    """Default: 503 for `respond`; that of the reply for `garble`."""

    retry_after: str | None = None
    """Value of the header `Retry-After`: seconds, or an HTTP date."""

    location: str | None = None
    """Value of the header `Location`, for a redirect."""

    shape: Shape | None = None
    """Shape of the error body; by default the one of the current API, or IAM's own at IAM."""

    code: int = Code.INTERNAL
    message: str = "This fault was injected."

    reset: bool = False
    """Close the connection with a reset (RST) instead of an orderly end (FIN)."""

    act_after_seconds: float | None = Field(default=None, ge=0)
    """With `drop`: act all the same, so long after the connection was closed."""

    seconds: float | None = Field(default=None, ge=0)
    """How long to hang or to delay; None: until the fault is removed."""

    bytes: int | None = None
    """With `cut`: how many bytes of the whole reply are sent; negative: all but so many."""

    body_bytes: int | None = None
    """With `cut`: how many bytes of the body are sent, after the whole head; negative: all but so many."""

    body: str = "{"
    pad: int = Field(default=0, ge=0)
    """With `garble`: how many spaces follow the body, which JSON allows."""

    content_type: str = "application/json"

    @model_validator(mode="after")
    def _check(self) -> FaultSpec:
        if self.action == "cut" and (self.bytes is None) == (self.body_bytes is None):
            raise ValueError("cut needs either bytes or body_bytes")
        return self


class Fault:
    """A fault that is in force.

    Args:
        number: Its id.
        spec: What is to go wrong.
    """

    def __init__(self, number: int, spec: FaultSpec) -> None:
        self.number = number
        self.spec = spec
        self.hits = 0
        self.random = random.Random(spec.seed)  # noqa: S311 - repeatable, not secret
        self.removed = asyncio.Event()
        self._left = spec.skip

    @property
    def spent(self) -> bool:
        """Whether it has hit as often as it should."""
        return self.spec.times is not None and self.hits >= self.spec.times

    def hit(self) -> bool:
        """Decide whether a matching call goes wrong."""
        if self.spent:
            return False
        if self._left:
            self._left -= 1
            return False
        if self.spec.probability < 1 and self.random.random() >= self.spec.probability:
            return False
        self.hits += 1
        return True

    async def wait(self) -> None:
        """Wait for as long as the fault says, or until it is removed."""
        try:
            async with asyncio.timeout(self.spec.seconds):
                await self.removed.wait()
        except TimeoutError:
            pass

    def document(self) -> dict[str, Any]:
        """Return the fault as JSON."""
        return {"id": self.number, "hits": self.hits, **self.spec.model_dump(exclude_defaults=True)}


class Faults:
    """All faults, in the order in which they were added; the first that hits a call is the one that happens to it.

    Args:
        accounts: Know the names of instances.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._faults: dict[int, Fault] = {}
        self._number = 0
        self._late: set[asyncio.Task[None]] = set()

    def add(self, spec: FaultSpec) -> Fault:
        """Put a fault in force."""
        self._number += 1
        fault = self._faults[self._number] = Fault(self._number, spec)
        return fault

    def remove(self, number: int | None = None) -> None:
        """Take one fault, or all, out of force; calls that hang on it go on."""
        for fault in list(self._faults.values()):
            if number in (None, fault.number):
                del self._faults[fault.number]
                fault.removed.set()

    def document(self) -> list[dict[str, Any]]:
        """Return all faults as JSON, with how often each one hit."""
        return [fault.document() for fault in self._faults.values()]

    async def close(self) -> None:
        """Give up what was to be done late."""
        self.remove()
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)

    async def serve(self, request: web.Request, call: Call, answer: Answer, trace: str) -> web.StreamResponse:
        """Answer a call, wrongly if a fault hits it.

        Args:
            request: The call.
            call: Its record, which is completed.
            answer: Does what was asked for, and returns the right answer.
            trace: Id of the request, for error bodies.
        """

        async def act() -> web.StreamResponse:
            call.acted = True
            return await answer()

        fault = self._hit(request)
        if fault is not None:
            call.fault = fault.spec.action
        match call.fault:
            case "respond" | "drop" | "hang":
                assert fault is not None
                return await self._refuse(fault, request, call, act, trace)
            case "cut" | "garble":
                assert fault is not None
                return await _spoil(fault, request, call, await act())
            case "delay":
                assert fault is not None
                await fault.wait()
            case "reorder":
                assert fault is not None
                request[REORDER] = fault.random
        return _noted(call, await act())

    async def _refuse(
        self, fault: Fault, request: web.Request, call: Call, act: Answer, trace: str
    ) -> web.StreamResponse:
        """Do without the right answer, before or after acting."""
        spec = fault.spec
        if spec.when == "after":
            await act()
        if spec.action == "respond":
            return _noted(call, _error(spec, request, trace))
        if spec.action == "hang":
            await fault.wait()
        elif spec.act_after_seconds is not None and spec.when == "before":
            # The connection is about to go, so the body has to be read now.
            await request.read()
            self._act_late(spec.act_after_seconds, act)
        return _severed(request, reset=spec.reset)

    def _hit(self, request: web.Request) -> Fault | None:
        names = (route_of(request), f"{request.method} {request.path}")
        crn = request.headers.get("Service-CRN", "")
        instance = {crn, *(item.name for item in self._accounts.instances() if item.crn == crn)}
        for fault in self._faults.values():
            spec = fault.spec
            if spec.instance is not None and spec.instance not in instance:
                continue
            if spec.follows is not None and not self._has_hit(spec.follows):
                continue
            if any(_matches(name, spec.route) for name in names) and fault.hit():
                return fault
        return None

    def _has_hit(self, number: int) -> bool:
        fault = self._faults.get(number)
        return fault is not None and fault.hits > 0

    def _act_late(self, seconds: float, act: Answer) -> None:
        async def late() -> None:
            await asyncio.sleep(seconds)
            await act()

        task = asyncio.get_running_loop().create_task(late())
        self._late.add(task)
        task.add_done_callback(self._late.discard)


def _matches(name: str, pattern: str) -> bool:
    # A `[` in a pattern means itself: no path has character classes.
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def _noted(call: Call, answer: web.StreamResponse) -> web.StreamResponse:
    call.status = answer.status
    call.reply_bytes = len(_render(answer))
    return answer


def _error(spec: FaultSpec, request: web.Request, trace: str) -> web.Response:
    fields = {"Retry-After": spec.retry_after, "Location": spec.location}
    headers = {name: value for name, value in fields.items() if value is not None}
    shape = spec.shape or ("iam" if request.path == "/identity/token" else "errors")
    return ApiError(spec.status or 503, spec.code, spec.message, headers=headers).reply(trace, shape)


async def _spoil(fault: Fault, request: web.Request, call: Call, answer: web.StreamResponse) -> web.StreamResponse:
    """Send something else than the right answer, or only a part of it."""
    spec = fault.spec
    _noted(call, answer)
    if spec.action == "cut":
        return await _cut(fault, request, answer)
    headers = {"Content-Type": spec.content_type}
    return web.Response(status=spec.status or answer.status, body=spec.body.encode() + b" " * spec.pad, headers=headers)


async def _cut(fault: Fault, request: web.Request, answer: web.StreamResponse) -> web.Response:
    spec, raw = fault.spec, _render(answer)
    if spec.bytes is not None:
        end = spec.bytes if spec.bytes >= 0 else len(raw) + spec.bytes
    else:
        assert spec.body_bytes is not None
        head = raw.index(_HEAD_END) + len(_HEAD_END)
        end = head + spec.body_bytes if spec.body_bytes >= 0 else len(raw) + spec.body_bytes
    if request.transport is not None:
        request.transport.write(raw[: max(end, 0)])
    if spec.seconds:
        await fault.wait()
    return _severed(request, reset=spec.reset)


def _severed(request: web.Request, *, reset: bool) -> web.Response:
    """Close the connection. The answer that is returned meets a closed connection, and is lost."""
    if request.transport is not None:
        if reset:
            connection = request.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        request.transport.close()
    return web.Response()


def _render(answer: web.StreamResponse) -> bytes:
    """Return a whole reply, head and body, as it goes over the wire."""
    assert isinstance(answer, web.Response)
    body = answer.body if isinstance(answer.body, bytes) else b""
    headers = {**answer.headers, "Content-Length": str(len(body))}
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode() + _HEAD_END + body

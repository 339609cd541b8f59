"""The control route: makes the server misbehave, moves jobs, and tells what the server saw."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from tests.emulators.ibm_quantum.accounts import Instance
from tests.emulators.ibm_quantum.devices import State as DeviceState
from tests.emulators.ibm_quantum.faults import FaultSpec
from tests.emulators.ibm_quantum.jobs import Job, State
from tests.emulators.ibm_quantum.wire import invalid_body, not_found, read_object, reply
from tests.emulators.ibm_quantum.world import World

PREFIX = "/_control"

_MOVE_SECONDS = 30.0

_Model = TypeVar("_Model", bound=BaseModel)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Advance(_Body):
    """Where a job goes; `Running` and `Completed` only forwards, and only jobs that are advanced by hand."""

    to: State
    reason: str | None = None
    code: int | None = None
    solution: str | None = None
    status_word: str | None = None


class JobChange(_Body):
    """What a job says about itself; None takes a word back."""

    state_word: str | None = None
    status_word: str | None = None
    forgotten: bool | None = None


class Keys(_Body):
    """Which API keys an account gets and loses."""

    add: list[str] = []
    remove: list[str] = []


class DeviceChange(_Body):
    """What changes at a device."""

    state: DeviceState | None = None
    extra_queue: int | None = None
    message: str | None = None


class InstanceChange(_Body):
    """What changes at an instance."""

    usage_limit_seconds: int | None = None
    usage_consumed_seconds: float | None = None


class Tokens(_Body):
    """What happens to tokens."""

    action: Literal["expire"]


class Control:
    """Answers the calls of the control route.

    Args:
        world: All that it changes and tells of.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[web.RouteDef]:
        """Return all routes."""
        routes: list[tuple[str, str, Callable[[web.Request], Awaitable[web.Response]]]] = [
            ("POST", "/reset", self._do_reset),
            ("GET", "/settings", self._get_settings),
            ("PATCH", "/settings", self._change_settings),
            ("GET", "/calls", self._get_calls),
            ("DELETE", "/calls", self._clear_calls),
            ("GET", "/faults", self._get_faults),
            ("POST", "/faults", self._add_fault),
            ("DELETE", "/faults", self._remove_faults),
            ("DELETE", "/faults/{number}", self._remove_faults),
            ("GET", "/jobs", self._get_jobs),
            ("GET", "/jobs/{job_id}", self._get_job),
            ("PATCH", "/jobs/{job_id}", self._change_job),
            ("POST", "/jobs/{job_id}/advance", self._advance),
            ("GET", "/sessions", self._get_sessions),
            ("GET", "/tokens", self._get_tokens),
            ("POST", "/tokens", self._tokens),
            ("GET", "/accounts", self._get_accounts),
            ("POST", "/accounts/{account}/keys", self._change_keys),
            ("PATCH", "/instances/{instance}", self._change_instance),
            ("PATCH", "/backends/{backend}", self._change_backend),
        ]
        return [web.route(method, PREFIX + path, handler) for method, path, handler in routes]

    async def _do_reset(self, request: web.Request) -> web.Response:
        await self._world.reset()
        return reply({})

    async def _get_settings(self, request: web.Request) -> web.Response:
        return reply(self._world.settings.model_dump())

    async def _change_settings(self, request: web.Request) -> web.Response:
        try:
            for name, value in (await read_object(request)).items():
                setattr(self._world.settings, name, value)
        except ValueError as error:
            raise invalid_body(str(error)) from error
        return reply(self._world.settings.model_dump())

    async def _get_calls(self, request: web.Request) -> web.Response:
        return reply(self._world.calls.document(request.query.get("route")))

    async def _clear_calls(self, request: web.Request) -> web.Response:
        self._world.calls.clear()
        return reply({})

    async def _get_faults(self, request: web.Request) -> web.Response:
        return reply({"faults": self._world.faults.document()})

    async def _add_fault(self, request: web.Request) -> web.Response:
        return reply(self._world.faults.add(await _read(request, FaultSpec)).document())

    async def _remove_faults(self, request: web.Request) -> web.Response:
        number = request.match_info.get("number")
        self._world.faults.remove(None if number is None else int(number))
        return reply({"faults": self._world.faults.document()})

    async def _get_jobs(self, request: web.Request) -> web.Response:
        return reply({"jobs": [_job_document(job) for job in self._world.jobs]})

    async def _get_job(self, request: web.Request) -> web.Response:
        job = self._world.jobs[request.match_info["job_id"]]
        return reply({**_job_document(job), "params": job.params, "results": job.results()})

    async def _change_job(self, request: web.Request) -> web.Response:
        job, change = self._world.jobs[request.match_info["job_id"]], await _read(request, JobChange)
        for name in change.model_fields_set:
            setattr(job, name, getattr(change, name))
        return reply(_job_document(job))

    async def _advance(self, request: web.Request) -> web.Response:
        job, move = self._world.jobs[request.match_info["job_id"]], await _read(request, Advance)
        if move.to in (State.RUNNING, State.COMPLETED):
            await self._move(job, move.to)
        elif move.to is not State.QUEUED:
            self._world.jobs.end(
                job,
                move.to,
                reason=move.reason,
                code=move.code,
                solution=move.solution,
                status_word=move.status_word,
            )
        return reply(_job_document(job))

    async def _move(self, job: Job, to: State) -> None:
        if not job.manual:
            raise invalid_body("the job advances by the clock, not by hand")
        if job.state is State.QUEUED:
            self._world.jobs.step(job)
        if to is State.COMPLETED:
            self._world.jobs.step(job)
        async with asyncio.timeout(_MOVE_SECONDS):
            while job.state is State.QUEUED or (to is State.COMPLETED and job.state.pending):
                await asyncio.sleep(0.005)

    async def _get_sessions(self, request: web.Request) -> web.Response:
        return reply({"sessions": self._world.sessions.documents()})

    async def _get_tokens(self, request: web.Request) -> web.Response:
        return reply({"tokens": list(self._world.iam.tokens)})

    async def _tokens(self, request: web.Request) -> web.Response:
        await _read(request, Tokens)
        self._world.iam.expire_tokens()
        return reply({})

    async def _get_accounts(self, request: web.Request) -> web.Response:
        return reply(
            {
                "accounts": {
                    account.name: {
                        "api_keys": sorted(account.api_keys),
                        "instances": {instance.name: instance.crn for instance in account.instances},
                    }
                    for account in self._world.accounts
                }
            }
        )

    async def _change_keys(self, request: web.Request) -> web.Response:
        name, keys = request.match_info["account"], await _read(request, Keys)
        if name not in self._world.accounts:
            raise not_found("Account", name)
        account = self._world.accounts[name]
        account.api_keys = (account.api_keys | set(keys.add)) - set(keys.remove)
        return reply({"api_keys": sorted(account.api_keys)})

    async def _change_instance(self, request: web.Request) -> web.Response:
        instance, change = self._instance(request.match_info["instance"]), await _read(request, InstanceChange)
        for name in change.model_fields_set:
            setattr(instance, name, getattr(change, name))
        return reply({"crn": instance.crn, **change.model_dump(exclude_unset=True)})

    async def _change_backend(self, request: web.Request) -> web.Response:
        device, change = self._world.devices[request.match_info["backend"]], await _read(request, DeviceChange)
        for name in change.model_fields_set:
            setattr(device, name, getattr(change, name))
        return reply(device.listing(0))

    def _instance(self, name: str) -> Instance:
        for instance in self._world.accounts.instances():
            if name in (instance.name, instance.crn):
                return instance
        raise not_found("Instance", name)


async def _read(request: web.Request, model: type[_Model]) -> _Model:
    try:
        return model.model_validate(await read_object(request))
    except ValidationError as error:
        raise invalid_body(str(error)) from error


def _job_document(job: Job) -> dict[str, Any]:
    return {
        "id": job.id,
        "instance": job.crn,
        "backend": job.backend,
        "program": job.program,
        "tags": job.tags,
        "session_id": job.session_id,
        "private": job.private,
        "state": job.state,
        "reason_code": job.reason_code,
        "created": job.created.isoformat(),
        "results_reads": job.results_reads,
        "deleted": job.deleted,
        "forgotten": job.forgotten,
    }

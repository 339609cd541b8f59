"""The job API: backends, usage, jobs, sessions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from aiohttp import web

from tests.emulators.ibm_quantum.codes import Code
from tests.emulators.ibm_quantum.devices import Device
from tests.emulators.ibm_quantum.faults import REORDER
from tests.emulators.ibm_quantum.jobs import Job, checked_tags
from tests.emulators.ibm_quantum.wire import (
    ApiError,
    api_version,
    invalid_body,
    not_found,
    now,
    read_flag,
    read_object,
    read_time,
    reply,
    stamp,
)
from tests.emulators.ibm_quantum.world import World

_MAX_PAGE = 200
_DONE = 204


class Api:
    """Answers the calls of the job API.

    Args:
        world: All that there is.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self, prefix: str) -> list[web.RouteDef]:
        """Return all routes under a prefix."""
        routes: list[tuple[str, str, Callable[[web.Request], Awaitable[web.Response]]]] = [
            ("GET", "/backends", self._list_backends),
            ("GET", "/backends/{backend}/configuration", self._configuration),
            ("GET", "/backends/{backend}/properties", self._properties),
            ("GET", "/backends/{backend}/status", self._status),
            ("GET", "/instances/usage", self._usage),
            ("POST", "/jobs", self._submit),
            ("GET", "/jobs", self._list_jobs),
            ("GET", "/jobs/{job_id}", self._job),
            ("DELETE", "/jobs/{job_id}", self._delete_job),
            ("GET", "/jobs/{job_id}/results", self._results),
            ("GET", "/jobs/{job_id}/logs", self._logs),
            ("GET", "/jobs/{job_id}/metrics", self._metrics),
            ("POST", "/jobs/{job_id}/cancel", self._cancel_job),
            ("PUT", "/jobs/{job_id}/tags", self._set_tags),
            ("POST", "/sessions", self._open_session),
            ("GET", "/sessions/{session_id}", self._session),
            ("PATCH", "/sessions/{session_id}", self._close_session),
            ("DELETE", "/sessions/{session_id}/close", self._cancel_session),
        ]
        return [web.route(method, prefix + path, handler) for method, path, handler in routes]

    # --- Backends -------------------------------------------------------------------------------------------------------

    async def _list_backends(self, request: web.Request) -> web.Response:
        self._world.iam.instance(request)
        with_mocks = read_flag(request.query.get("include_mocks", "false"))
        devices = [device for device in self._world.devices if with_mocks or not device.mock]
        if api_version(request) < "2025-01-01":
            return reply({"devices": [device.name for device in devices]})
        return reply({"devices": [device.listing(self._queue(device)) for device in devices]})

    async def _configuration(self, request: web.Request) -> web.Response:
        return reply(self._device(request).description.configuration)

    async def _properties(self, request: web.Request) -> web.Response:
        device, before = self._device(request), request.query.get("updated_before")
        at = now() if before is None else read_time(before, "updated_before")
        return reply(device.properties(min(at, now())))

    async def _status(self, request: web.Request) -> web.Response:
        device = self._device(request)
        return reply(device.status(self._queue(device)))

    async def _usage(self, request: web.Request) -> web.Response:
        instance = self._world.iam.instance(request)
        begin = now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        document: dict[str, Any] = {
            "instance_id": instance.crn,
            "plan_id": instance.plan_id,
            "usage_period": {"start_time": stamp(begin), "end_time": stamp(begin + timedelta(days=28))},
            "usage_consumed_seconds": instance.usage_consumed_seconds,
        }
        if instance.usage_limit_seconds is not None:
            document["usage_limit_seconds"] = instance.usage_limit_seconds
            document["usage_limit_reached"] = instance.limit_reached
        return reply(document)

    # --- Jobs -----------------------------------------------------------------------------------------------------------

    async def _submit(self, request: web.Request) -> web.Response:
        account, instance = self._world.iam.account(request), self._world.iam.instance(request)
        body = await read_object(request)
        self._world.pace.check(instance)
        device = self._world.devices[str(body.get("backend"))]
        if device.state == "offline":
            message = f"The backend {device.name} is not available."
            raise ApiError(400, Code.BACKEND_NOT_AVAILABLE, message, "Use another backend.")
        if instance.limit_reached:
            raise ApiError(409, Code.USAGE_LIMIT, "The usage of the instance exceeds its limit.")
        limit = self._world.settings.max_pending_jobs
        if limit is not None and len(self._world.jobs.pending(crn=instance.crn)) >= limit:
            raise ApiError(403, Code.TOO_MANY_PENDING, f"The limit of {limit} pending jobs is reached.")
        job = self._world.jobs.submit(account, instance, body)
        optional = {"session_id": job.session_id, "private": job.private or None, "calibration_id": job.calibration_id}
        answer = {name: value for name, value in optional.items() if value is not None}
        return reply({"id": job.id, "backend": job.backend, **answer})

    async def _list_jobs(self, request: web.Request) -> web.Response:
        instance, version = self._world.iam.instance(request), api_version(request)
        found = [job for job in self._world.jobs if job.crn == instance.crn and self._listed(job, request)]
        if request.query.get("sort", "DESC").upper() != "ASC":
            found.reverse()
        if REORDER in request:
            request[REORDER].shuffle(found)
        limit, offset = _count(request, "limit", _MAX_PAGE), _count(request, "offset", 0)
        exclude = read_flag(request.query.get("exclude_params", "true"))
        page = found[offset : offset + limit]
        documents = [job.document(exclude_params=exclude, version=version) for job in page]
        return reply({"jobs": documents, "count": len(found), "offset": offset, "limit": limit})

    def _listed(self, job: Job, request: web.Request) -> bool:
        query = request.query
        shown_from = job.created + timedelta(seconds=self._world.settings.listing_delay_seconds)
        exact = {"backend": job.backend, "program": job.program, "session_id": job.session_id}
        return (
            job.known
            and now() >= shown_from
            and (not job.mock or read_flag(query.get("include_mocks", "false")))
            and ("pending" not in query or job.state.pending is read_flag(query["pending"]))
            and set(query.getall("tags", [])) <= set(job.tags)
            and ("created_after" not in query or job.created >= read_time(query["created_after"], "created_after"))
            and ("created_before" not in query or job.created <= read_time(query["created_before"], "created_before"))
            and all(query.get(name, value) == value for name, value in exact.items())
        )

    async def _job(self, request: web.Request) -> web.Response:
        exclude = read_flag(request.query.get("exclude_params", "false"))
        return reply(self._own_job(request).document(exclude_params=exclude, version=api_version(request)))

    async def _delete_job(self, request: web.Request) -> web.Response:
        self._world.jobs.delete(self._own_job(request))
        return web.Response(status=_DONE)

    async def _results(self, request: web.Request) -> web.Response:
        job = self._own_job(request)
        text = job.results()
        if text is None:
            return web.Response(status=_DONE)
        job.results_reads += 1
        if job.results_reads > 1 and (job.private or self._world.settings.results_once):
            raise not_found("Result of the job", job.id)
        kind = "application/json" if text.startswith("{") else "text/plain"
        return web.Response(text=text, content_type=kind)

    async def _logs(self, request: web.Request) -> web.Response:
        job = self._own_job(request)
        if job.state.pending:
            raise not_found("Log of the job", job.id)
        lines = [f"{stamp(job.running_at or job.created)} WARNING: ran {job.program} on {job.backend}"]
        if job.reason:
            lines.append(f"{stamp(job.finished_at)} ERROR: {job.reason}")
        return web.Response(text="\n".join(lines) + "\n")

    async def _metrics(self, request: web.Request) -> web.Response:
        job = self._own_job(request)
        position = start = None
        if self._world.settings.queue_positions and job.state.pending:
            position = self._world.jobs.pending(backend=job.backend).index(job)
            start = job.running_at or job.created + timedelta(seconds=self._world.settings.queue_seconds)
        return reply(job.metrics(api_version(request), position, start))

    async def _cancel_job(self, request: web.Request) -> web.Response:
        self._world.jobs.cancel(self._own_job(request))
        return web.Response(status=_DONE)

    async def _set_tags(self, request: web.Request) -> web.Response:
        job = self._own_job(request)
        job.tags = checked_tags((await read_object(request)).get("tags"))
        return web.Response(status=_DONE)

    # --- Sessions -------------------------------------------------------------------------------------------------------

    async def _open_session(self, request: web.Request) -> web.Response:
        account, instance = self._world.iam.account(request), self._world.iam.instance(request)
        body = await read_object(request)
        device = self._world.devices[str(body.get("backend"))]
        return reply(self._world.sessions.open(instance, account.user_id, device.name, body).document())

    async def _session(self, request: web.Request) -> web.Response:
        session = self._world.sessions.get(self._world.iam.instance(request), request.match_info["session_id"])
        if session.expired():
            self._world.jobs.end_session(session, "The session ran for as long as it may.")
        return reply(session.document())

    async def _close_session(self, request: web.Request) -> web.Response:
        session = self._world.sessions.get(self._world.iam.instance(request), request.match_info["session_id"])
        if (await read_object(request)).get("accepting_jobs") is not False:
            raise invalid_body("accepting_jobs can only be set to false")
        session.refuse_jobs()
        return web.Response(status=_DONE)

    async def _cancel_session(self, request: web.Request) -> web.Response:
        session = self._world.sessions.get(self._world.iam.instance(request), request.match_info["session_id"])
        self._world.jobs.end_session(session)
        return web.Response(status=_DONE)

    # --- Helpers --------------------------------------------------------------------------------------------------------

    def _device(self, request: web.Request) -> Device:
        self._world.iam.instance(request)
        return self._world.devices[request.match_info["backend"]]

    def _own_job(self, request: web.Request) -> Job:
        return self._world.jobs.get(self._world.iam.instance(request), request.match_info["job_id"])

    def _queue(self, device: Device) -> int:
        return len(self._world.jobs.pending(backend=device.name))


def _count(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not text.isdecimal():
        raise ApiError(400, Code.BODY_NOT_VALID, f"{name} must be a number: {text}")
    return min(int(text), _MAX_PAGE) if name == "limit" else int(text)

"""The provider's API, one coroutine per route. Calls run in threads; tokens come from a source."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar
from urllib.parse import quote

import orjson
from pydantic import BaseModel, ValidationError

from gateway.domain.errors import (
    FailedPrecondition,
    GatewayError,
    InvalidArgument,
    NotFound,
    Reason,
    ResourceExhausted,
    Unavailable,
)
from gateway.domain.secret import Secret, TokenSource
from gateway.providers.ibm import wire
from gateway.providers.ibm.breaker import Breaker
from gateway.providers.ibm.failures import TokenRefused
from gateway.providers.ibm.health import HealthRecord
from gateway.providers.ibm.settings import IbmSettings
from gateway.providers.ibm.transport import Call, Reply, Transport

PAGE_SIZE = 200
"""Most jobs in a page of a listing."""

_RETRY_SECONDS = 1.0
_MOST_ERROR_TEXT = 64 * 1024
"""Bytes that are read of what a failed job says."""
_Model = TypeVar("_Model", bound=BaseModel)


class IbmClient:
    """Calls the API for one instance.

    A call whose token is refused is made once more with a fresh token: a refused call did nothing, not even a new job.

    Args:
        settings: Where the instance is, and how patient to be.
        tokens: Where tokens come from.
        health: Is told how calls go.
    """

    def __init__(self, settings: IbmSettings, tokens: TokenSource, health: HealthRecord) -> None:
        self._settings = settings
        self._tokens = tokens
        self._health = health
        self._transport = Transport(settings)
        self._breaker = Breaker(settings.account, shortest=settings.shortest_outage, longest=settings.longest_outage)
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix=f"ibm-{settings.account}")
        self._calls = 0
        self._under_way: set[Future[Reply]] = set()
        """Calls that have an end to come, also those that nobody waits for any more."""
        self._closed = False

    def close(self) -> None:
        """Begin no more calls, and close the connections. Calls under way come to their own end."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._transport.close()

    async def ended(self, within: float) -> None:
        """Wait, after `close`, until no call is under way, or for so many seconds."""
        await asyncio.to_thread(wait, tuple(self._under_way), within)

    # --- Backends -----------------------------------------------------------------------------------------------------------

    async def devices(self) -> wire.Devices:
        """Return all devices with their state and queue."""
        return await self._get_all(wire.Devices, "/backends")

    async def configuration(self, backend: str) -> wire.Configuration:
        """Return what a device is."""
        return await self._get(wire.Configuration, f"/backends/{_part(backend)}/configuration")

    async def properties(self, backend: str, before: str = "") -> wire.Properties | None:
        """Return the last calibration (before a time in ISO 8601), or None if there is none."""
        call = Call("GET", f"/backends/{_part(backend)}/properties", [("updated_before", before)] if before else [])
        document = self._json(await self._call(call))
        return self._read(wire.Properties, document) if document else None

    async def usage(self) -> wire.InstanceUsage:
        """Return what the instance has used."""
        return await self._get(wire.InstanceUsage, "/instances/usage")

    # --- Jobs ---------------------------------------------------------------------------------------------------------------

    async def ready(self) -> None:
        """Make a harmless call if the last one found the provider down: a new job must not be the try, or it would be in doubt."""
        if self._breaker.is_suspect:
            await self.devices()

    async def submit(self, body: bytes, backend: str) -> wire.SubmittedJob:
        """Submit a job, once.

        Args:
            body: The whole request as JSON.
            backend: Where the job is to run, for errors.

        Raises:
            SubmissionInDoubt: The job was sent, and may have been taken.
            GatewayError: It was certainly not taken.
        """
        await self.ready()
        call = Call("POST", "/jobs", body=body)
        reply = await self._with_token(lambda token: self._transport.submit(call, backend, token))
        try:
            return wire.SubmittedJob.model_validate_json(reply.body)
        except ValidationError:
            doubt = self._transport.doubt("its answer cannot be understood")
            self._health.failed(doubt)
            raise doubt from None

    async def jobs(self, query: Sequence[tuple[str, str]]) -> wire.JobsPage:
        """Return a page of jobs, without their programs."""
        return await self._get_all(wire.JobsPage, "/jobs", [("exclude_params", "true"), *query])

    async def job(self, job_id: str) -> wire.JobDocument:
        """Return a job, without its program."""
        return await self._get(wire.JobDocument, f"/jobs/{_part(job_id)}", [("exclude_params", "true")])

    async def program(self, job_id: str) -> wire.JobProgram:
        """Return the program of a job."""
        return await self._get(wire.JobProgram, f"/jobs/{_part(job_id)}")

    async def results(self, job_id: str, keep: Callable[[Iterator[bytes]], None]) -> None:
        """Read the results of a job.

        Args:
            job_id: Which job.
            keep: Is given them piece by piece as they come, on the thread that reads them, even if the caller is gone; no piece
                if there are none. See `Call.take`.

        Raises:
            OutOfRange: They are larger than the account takes in.
        """
        await self._call(Call("GET", f"/jobs/{_part(job_id)}/results", take=keep))

    async def error_text(self, job_id: str) -> str:
        """Return the beginning of what a failed job gave out as its results."""
        beginning = bytearray()

        def keep(pieces: Iterator[bytes]) -> None:
            for piece in pieces:
                beginning.extend(piece)
                if len(beginning) > _MOST_ERROR_TEXT:
                    return

        await self._call(Call("GET", f"/jobs/{_part(job_id)}/results", take=keep))
        return beginning[:_MOST_ERROR_TEXT].decode(errors="replace")

    async def metrics(self, job_id: str) -> wire.JobMetrics:
        """Return more about a job."""
        return await self._get(wire.JobMetrics, f"/jobs/{_part(job_id)}/metrics")

    async def logs(self, job_id: str) -> str:
        """Return the log of a job; empty if there is none."""
        try:
            return (await self._call(Call("GET", f"/jobs/{_part(job_id)}/logs"))).body.decode(errors="replace")
        except NotFound:
            return ""

    async def cancel(self, job_id: str) -> None:
        """Cancel a job.

        Raises:
            FailedPrecondition: It is final already.
        """
        await self._call(Call("POST", f"/jobs/{_part(job_id)}/cancel", repeatable=True))

    async def delete(self, job_id: str) -> None:
        """Delete a final job."""
        await self._call(Call("DELETE", f"/jobs/{_part(job_id)}"))

    async def set_tags(self, job_id: str, tags: Sequence[str]) -> None:
        """Replace the tags of a job."""
        await self._call(Call("PUT", f"/jobs/{_part(job_id)}/tags", body=orjson.dumps({"tags": list(tags)})))

    # --- Sessions -----------------------------------------------------------------------------------------------------------

    async def open_session(self, mode: str, backend: str, max_seconds: int | None) -> wire.SessionDocument:
        """Open a session (`dedicated`) or a batch (`batch`).

        Raises:
            Unavailable: There may be one, or not. A session bears no mark by which it could be found, so this is not settled; one
                that got lost holds no jobs, and costs nothing.
        """
        body: dict[str, Any] = {"mode": mode, "backend": backend, "instance": self._settings.crn}
        if max_seconds is not None:
            body["max_ttl"] = max_seconds
        try:
            reply = await self._call(Call("POST", "/sessions", body=orjson.dumps(body)))
            return self._read(wire.SessionDocument, self._json(reply))
        except Unavailable as error:
            if error.reason is not Reason.PROVIDER_UNAVAILABLE:
                raise
            raise Unavailable(
                f"The provider of account {self._settings.account!r} did not say whether it opened the session. Ask again. If it "
                "did, that session holds no jobs and costs nothing.",
                metadata=error.metadata,
                retry_after=error.retry_after,
            ) from None

    async def session(self, session_id: str) -> wire.SessionDocument:
        """Return a session."""
        return await self._get(wire.SessionDocument, f"/sessions/{_part(session_id)}")

    async def close_session(self, session_id: str) -> None:
        """Let a session take no more jobs; those that it has still run."""
        body = orjson.dumps({"accepting_jobs": False})
        await self._call(Call("PATCH", f"/sessions/{_part(session_id)}", body=body, repeatable=True))

    async def cancel_session(self, session_id: str) -> None:
        """End a session at once, with all its jobs."""
        await self._call(Call("DELETE", f"/sessions/{_part(session_id)}/close"))

    # --- How calls are made -------------------------------------------------------------------------------------------------

    async def _get(self, model: type[_Model], path: str, query: Sequence[tuple[str, str]] = ()) -> _Model:
        return self._read(model, self._json(await self._call(Call("GET", path, query))))

    async def _get_all(self, model: type[_Model], path: str, query: Sequence[tuple[str, str]] = ()) -> _Model:
        """Get what is there whatever else is: a refusal tells of the service, and nothing of jobs or backends."""
        try:
            return await self._get(model, path, query)
        except (NotFound, InvalidArgument, FailedPrecondition) as error:
            trouble = Unavailable(
                f"The provider of account {self._settings.account!r} does not give out what any account may read. The gateway "
                f"tries again by itself. {error.message}",
                metadata=error.metadata,
            )
            self._health.failed(trouble)
            raise trouble from None

    async def _call(self, call: Call) -> Reply:
        # While the provider counts as down, each call is one try.
        repeat = not self._breaker.is_open
        return await self._with_token(lambda token: self._transport.call(call, token, repeat=repeat))

    async def _with_token(self, send: Callable[[Secret], Reply]) -> Reply:
        token = await self._tokens.token()
        try:
            try:
                reply = await self._in_thread(send, token.secret)
            except TokenRefused:
                self._tokens.invalidate(token)
                token = await self._tokens.token()
                reply = await self._in_thread(send, token.secret)
        except TokenRefused as refused:
            self._health.failed(refused.failure)
            raise refused.failure from None
        except GatewayError as error:
            self._health.failed(error)
            raise
        self._tokens.confirm(token)
        self._health.answered()
        return reply

    async def _in_thread(self, send: Callable[[Secret], Reply], token: Secret) -> Reply:
        if self._closed:
            raise Unavailable(
                f"The gateway has closed account {self._settings.account!r}.", reason=Reason.SERVER_STOPPING
            )
        if self._calls >= self._settings.threads + self._settings.max_waiting_calls:
            raise ResourceExhausted(
                f"Too many calls wait for the provider of account {self._settings.account!r}. Try again in a moment.",
                retry_after=_RETRY_SECONDS,
            )
        with self._breaker.call():
            self._calls += 1
            call = self._threads.submit(send, token)
            self._under_way.add(call)
            call.add_done_callback(self._under_way.discard)
            try:
                return await asyncio.wrap_future(call)
            finally:
                self._calls -= 1

    def _json(self, reply: Reply) -> Any:
        try:
            return orjson.loads(reply.body)
        except orjson.JSONDecodeError:
            raise self._not_understood() from None

    def _read(self, model: type[_Model], document: Any) -> _Model:
        try:
            return model.model_validate(document)
        except ValidationError:
            raise self._not_understood() from None

    def _not_understood(self) -> Unavailable:
        error = Unavailable(
            f"The provider of account {self._settings.account!r} sent something that cannot be understood. The gateway tries "
            "again by itself.",
            metadata={"account": self._settings.account},
        )
        self._health.failed(error)
        return error


def _part(name: str) -> str:
    """Return a name as one part of a path: it can never reach another route."""
    if name in {"", ".", ".."}:
        raise NotFound(f"There is nothing of the name {name!r}.")
    return quote(name, safe="")

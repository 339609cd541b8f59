"""Opens, follows and ends sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import structlog

from gateway.domain.access import Caller
from gateway.domain.errors import (
    AlreadyExists,
    FailedPrecondition,
    GatewayError,
    InvalidArgument,
    NotFound,
    Reason,
    Unimplemented,
)
from gateway.domain.job import Job, JobStatus, SchedulingMode, new_id, utc_now
from gateway.domain.provider import Capability, Provider, ProviderSession
from gateway.domain.query import JobFilter
from gateway.domain.session import Session, SessionPage, SessionState
from gateway.engine import transitions
from gateway.engine.accounts import Accounts
from gateway.engine.audit import audit_entry
from gateway.store import Store

_log = structlog.get_logger(__name__)

_FRESH_SECONDS = 5.0
"""For how long a session is believed to take jobs after its provider said so."""
_LISTING_SECONDS = 3.0
"""How long a listing waits for news of its sessions."""
_AT_ONCE = 4
"""Sessions of a listing whose provider is asked at a time."""
_CLOSE_SECONDS = 2.0
"""Pause between two looks at the sessions that are to be closed as soon as their jobs have reached the provider."""
_PAGE = 500
_ON_THEIR_WAY = frozenset({JobStatus.INITIALIZING})
_WAITING = frozenset({JobStatus.INITIALIZING, JobStatus.QUEUED, JobStatus.VALIDATING})


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """What a caller asks to open. Checked for form."""

    backend: str
    mode: SchedulingMode
    digest: str
    """SHA-256 of the whole request but for its id."""
    account: str = ""
    max_seconds: int | None = None
    request_id: str = ""


class Sessions:
    """The sessions of all accounts, on behalf of callers.

    What a session is doing, its provider knows: it is asked whenever it matters. What callers did to it is kept in the store.

    Args:
        accounts: Where sessions run.
        store: Where they are kept.
    """

    def __init__(self, accounts: Accounts, store: Store) -> None:
        self._accounts = accounts
        self._store = store
        self._fresh_until: dict[str, float] = {}
        """By session, until when its state is not asked for again, on the clock of the event loop."""
        self._more_to_close = asyncio.Event()
        self._opening: set[asyncio.Task[Session]] = set()

    async def create(self, caller: Caller, request: SessionRequest) -> Session:
        """Open a session, or return the one that the same request opened before.

        Raises:
            NotFound: There is no such backend.
            Unimplemented: Its provider has no sessions.
            InvalidArgument: The provider refuses it.
            AlreadyExists: The request id was used for another request.
            Unavailable: The provider cannot be reached.
        """
        if request.request_id:
            earlier = await self._store.sessions.get_by_request_id(caller.tenant, request.request_id)
            if earlier is not None:
                return _same_request(earlier, request)
        provider, _ = await self._accounts.of(caller).find_backend(request.backend, request.account)
        if Capability.SESSIONS not in provider.capabilities:
            raise Unimplemented(
                f"The provider of account {provider.account!r} has no sessions. Run the jobs without one.",
                reason=Reason.SESSIONS_UNSUPPORTED,
                metadata={"account": provider.account},
            )
        # What was begun is brought to its end even if the caller goes away meanwhile: nobody else would know of the session.
        opening = asyncio.create_task(self._open(caller, request, provider))
        self._opening.add(opening)
        opening.add_done_callback(self._opened)
        return await asyncio.shield(opening)

    async def get(self, caller: Caller, session_id: str) -> Session:
        """Return a session as its provider tells of it now.

        Raises:
            NotFound: There is none, or it is another tenant's.
            Unavailable: The provider cannot be reached.
        """
        return await self._updated(await self._find(caller, session_id))

    async def list(self, caller: Caller, backend: str, *, limit: int, cursor: int | None) -> SessionPage:
        """Return a page of the tenant's sessions, newest first; on all backends if `backend` is empty.

        A session whose provider does not answer soon is listed as it was last known.
        """
        page = await self._store.sessions.page(caller.tenant, backend, limit=limit, cursor=cursor)
        few = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            sessions = [group.create_task(self._updated_soon(session, few)) for session in page.sessions]
        return replace(page, sessions=tuple(task.result() for task in sessions))

    async def close(self, caller: Caller, session_id: str) -> Session:
        """Let a session take no more jobs; those that were accepted still run. One that has ended stays as it is.

        Raises:
            NotFound: There is none, or it is another tenant's.
        """
        await self._find(caller, session_id)
        entry = audit_entry(caller, "session.close", session_id, collection="sessions")
        session = await self._close_at_provider(await self._store.sessions.change(session_id, _closing, entry))
        if session.closing:
            self._more_to_close.set()
        return session

    async def cancel(self, caller: Caller, session_id: str) -> Session:
        """End a session at once; its waiting jobs are cancelled. One that has ended stays as it is.

        Raises:
            NotFound: There is none, or it is another tenant's.
            Unavailable: The provider cannot be reached. The session takes no more jobs all the same.
        """
        await self._find(caller, session_id)
        entry = audit_entry(caller, "session.cancel", session_id, collection="sessions")
        session = await self._store.sessions.change(session_id, _closing, entry)
        if session.state is SessionState.CLOSED:
            return session
        async for job in self._waiting_jobs(session):
            with suppress(FailedPrecondition, NotFound):  # it has ended meanwhile
                await self._store.change_job(
                    job.id, transitions.cancel_requested, audit_entry(caller, "job.cancel", job.id)
                )
        return await self._ask(session, lambda provider: provider.cancel_session(session.provider_session_id))

    async def admit(self, caller: Caller, session_id: str, backend: str, account: str) -> Session:
        """Return the session in which a job is to run.

        Args:
            caller: Who submits the job.
            session_id: Which session.
            backend: Where the job is to run.
            account: In which account; empty if the caller does not say.

        Raises:
            NotFound: There is no such session, or it is another tenant's.
            InvalidArgument: It is in another account, or on another backend.
            FailedPrecondition: It takes no more jobs.
        """
        session = await self._find(caller, session_id)
        if session.backend != backend:
            raise InvalidArgument.field("session", f"it holds the backend {session.backend!r}, not {backend!r}")
        if account and session.account != account:
            raise InvalidArgument.field("session", f"it runs in the account {session.account!r}, not {account!r}")
        if session.accepting_jobs and asyncio.get_running_loop().time() >= self._fresh_until.get(session.id, 0.0):
            with suppress(GatewayError):  # whether the job can be sent now is seen when it is sent
                session = await self._updated(session)
        _check_accepting(session)
        return session

    async def check_open(self, job: Job) -> None:
        """Find out whether a job was refused because its session has ended.

        Raises:
            FailedPrecondition: It was.
        """
        session = await self._store.sessions.get(job.session.removeprefix("sessions/"))
        if session is not None:
            with suppress(GatewayError):
                session = await self._updated(session)
            _check_accepting(session)

    async def of_provider(self, account: str, provider_session_id: str) -> Session | None:
        """Return the session that a provider knows under an id, if it was opened through the gateway."""
        return await self._store.sessions.get_by_provider_id(account, provider_session_id)

    async def run(self) -> None:
        """Close the sessions that wait for it, until cancelled."""
        while True:
            self._more_to_close.clear()
            try:
                some_wait = await self._close_waiting()
            except Exception:  # noqa: BLE001 - the next look may do better, and nobody else would look
                _log.exception("sessions_not_closed")
                some_wait = True
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS if some_wait else None):
                    await self._more_to_close.wait()

    async def stop(self) -> None:
        """Wait no longer for providers to open sessions."""
        for opening in self._opening:
            opening.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)

    # --- Helpers --------------------------------------------------------------------------------------------------------

    async def _open(self, caller: Caller, request: SessionRequest, provider: Provider) -> Session:
        """Open a session at its provider and store it."""
        opened = await provider.open_session(request.backend, request.mode, request.max_seconds)
        session = Session(
            id=new_id(),
            tenant=caller.tenant,
            creator=caller.name,
            account=provider.account,
            backend=request.backend,
            mode=request.mode,
            created_at=opened.created_at or utc_now(),
            provider_session_id=opened.id,
            max_seconds=request.max_seconds,
            request_id=request.request_id,
            request_digest=request.digest,
        )
        session = _told(session, opened)
        entry = audit_entry(caller, "session.create", session.id, request.request_id, collection="sessions")
        stored = await self._store.sessions.create(session, entry)
        if stored.id != session.id:  # the same request came twice at the same time
            with suppress(GatewayError):
                await provider.cancel_session(opened.id)
            return _same_request(stored, request)
        self._believe(session)
        return session

    def _opened(self, task: asyncio.Task[Session]) -> None:
        self._opening.discard(task)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, GatewayError):
            _log.error("session_not_opened", exc_info=error)

    async def _find(self, caller: Caller, session_id: str) -> Session:
        session = await self._store.sessions.get(session_id)
        if session is None or session.tenant != caller.tenant:
            raise NotFound.session(session_id)
        return session

    async def _close_waiting(self) -> bool:
        """Close all sessions that wait for it. Returns whether some have to wait longer."""
        waiting = [session for session in await self._store.sessions.open() if session.closing]
        closed = [await self._close_at_provider(session) for session in waiting]
        return any(session.closing for session in closed)

    async def _close_at_provider(self, session: Session) -> Session:
        """Close a session upstream, unless jobs for it are still on their way there; it is looked at again then."""
        if not session.closing or session.account not in self._accounts.providers:
            return session
        where = JobFilter(tenant=session.tenant, session=session.name, statuses=_ON_THEIR_WAY)
        try:
            if not (await self._store.list_jobs(where, limit=1)).jobs:
                return await self._ask(session, lambda provider: provider.close_session(session.provider_session_id))
        except GatewayError as error:
            _log.warning("session_not_closed", account=session.account, session=session.id, detail=error.message)
        return session

    async def _waiting_jobs(self, session: Session) -> AsyncIterator[Job]:
        where = JobFilter(tenant=session.tenant, session=session.name, statuses=_WAITING)
        cursor: int | None = None
        while True:
            page = await self._store.list_jobs(where, limit=_PAGE, cursor=cursor)
            for job in page.jobs:
                yield job
            cursor = page.next_cursor
            if cursor is None:
                return

    async def _updated_soon(self, session: Session, few: asyncio.Semaphore) -> Session:
        with suppress(GatewayError, TimeoutError):
            async with asyncio.timeout(_LISTING_SECONDS), few:
                return await self._updated(session)
        return session

    async def _updated(self, session: Session) -> Session:
        """Return a session as its provider tells of it now."""
        if session.state is SessionState.CLOSED or session.account not in self._accounts.providers:
            return session
        return await self._ask(session, lambda provider: provider.session(session.provider_session_id))

    async def _ask(self, session: Session, ask: Callable[[Provider], Awaitable[ProviderSession]]) -> Session:
        """Store what the provider of a session answers, and return the session after that."""
        try:
            told = await ask(self._accounts.provider(session.account))
        except NotFound:
            session = await self._store.sessions.change(session.id, _ended)
        else:
            session = await self._store.sessions.change(session.id, partial(_told, told=told))
        self._believe(session)
        return session

    def _believe(self, session: Session) -> None:
        if session.state is SessionState.CLOSED:
            self._fresh_until.pop(session.id, None)
        else:
            self._fresh_until[session.id] = asyncio.get_running_loop().time() + _FRESH_SECONDS


def _told(session: Session, told: ProviderSession) -> Session:
    """Return a session after what its provider told of it. One that takes no more jobs never takes jobs again."""
    if session.state is SessionState.CLOSED:
        return session
    ended = told.state is SessionState.CLOSED
    return replace(
        session,
        state=told.state,
        accepting_jobs=session.accepting_jobs and told.accepting_jobs,
        closing=session.closing and told.accepting_jobs,
        max_seconds=told.max_seconds if told.max_seconds is not None else session.max_seconds,
        interactive_seconds=told.interactive_seconds,
        activated_at=told.activated_at,
        closed_at=(told.closed_at or utc_now()) if ended else None,
        usage_seconds=told.usage_seconds,
    )


def _ended(session: Session) -> Session:
    """Return a session that its provider does not know any more."""
    if session.state is SessionState.CLOSED:
        return session
    return replace(session, state=SessionState.CLOSED, accepting_jobs=False, closing=False, closed_at=utc_now())


def _closing(session: Session) -> Session:
    """Return a session that a caller closed."""
    if not session.accepting_jobs:
        return session
    return replace(session, accepting_jobs=False, closing=True)


def _check_accepting(session: Session) -> None:
    if not session.accepting_jobs:
        verb = "has ended" if session.state is SessionState.CLOSED else "was closed"
        raise FailedPrecondition(
            f"The session {session.id!r} {verb} and takes no further jobs. Open another one, or run the job without.",
            reason=Reason.SESSION_CLOSED,
            metadata={"session": session.id},
        )


def _same_request(session: Session, request: SessionRequest) -> Session:
    if session.request_digest != request.digest:
        raise AlreadyExists(
            "The request id was used for another session before. Use a new id for each session.",
            reason=Reason.REQUEST_ID_REUSED,
            metadata={"request_id": request.request_id, "session": session.id},
        )
    return session

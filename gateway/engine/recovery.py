"""Takes up, at start, the jobs that a former run of the gateway left unfinished."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

import structlog

from gateway.domain.job import Job
from gateway.domain.provider import Capability
from gateway.engine import transitions
from gateway.engine.accounts import Accounts
from gateway.engine.dispatcher import Dispatcher
from gateway.store import Store

_log = structlog.get_logger(__name__)


async def recover(store: Store, accounts: Accounts, dispatchers: Mapping[str, Dispatcher]) -> None:
    """Put every unfinished job back to work, the oldest first, and forget what was read for jobs that have ended since.

    Providers that forget their jobs when the gateway stops get them again. Other providers are asked first for what they may
    have, and what they have is followed, and what they may have twice is looked for, also if it has ended. A job whose
    account is no longer configured stays as it is and says so.
    """
    unfinished = await store.unfinished_jobs()
    if forgotten := await asyncio.to_thread(
        store.spool.keep_only, [(job.account, job.provider_job_id) for job in unfinished]
    ):
        _log.info("spooled_results_removed", count=forgotten)
    changed = await asyncio.gather(*(_take_up(store, accounts, job) for job in unfinished))
    for job in changed:
        if job.account in dispatchers and not job.status.is_final:
            await dispatchers[job.account].take_up(job)
    for job, until in await store.twins_due():
        if job.account in dispatchers:
            dispatchers[job.account].look_for_twins(job, until)
    if unfinished:
        _log.info("jobs_taken_up", jobs=len(unfinished))


async def _take_up(store: Store, accounts: Accounts, job: Job) -> Job:
    provider = accounts.providers.get(job.account)
    if provider is None:
        message = f"The account {job.account!r} is no longer configured. Configure it again, or cancel the job."
        _log.warning("account_missing", account=job.account, job=job.id)
        return await store.change_job(job.id, partial(transitions.account_missing, message=message))
    if Capability.VOLATILE in provider.capabilities:
        return await store.change_job(job.id, transitions.forgotten)
    return job

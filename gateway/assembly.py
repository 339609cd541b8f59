"""Builds the providers of accounts from their settings, with the credentials that they need."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack

from gateway.config import CredentialsSettings
from gateway.config_accounts import AccountSettings, IbmAccountSettings, LocalAccountSettings
from gateway.domain.policy import Metering
from gateway.domain.provider import Provider
from gateway.domain.spool import ResultSpool
from gateway.engine.pacing import Pacing
from gateway.providers.local import LocalProvider, LocalSettings
from gateway.workers import WorkerPool, WorkerSimulators


def new_provider(
    name: str,
    account: AccountSettings,
    credentials: CredentialsSettings,
    *,
    pool: WorkerPool,
    spool: ResultSpool,
    parts: AsyncExitStack,
) -> Provider:
    """Return the provider of an account, not yet started.

    Args:
        name: Name of the account.
        account: Its settings.
        credentials: Where sealed keys are kept.
        pool: Where circuits are run, written and read.
        spool: Where results are kept that a provider gives out once.
        parts: Is given what has to be closed after the provider.

    Raises:
        CredentialError: The place where the key is kept cannot be used.
    """
    if isinstance(account, LocalAccountSettings):
        return _local(name, account, pool)
    # Its libraries take memory that a gateway without such an account need not have.
    from gateway.assembly_ibm import ibm_provider

    return ibm_provider(name, account, credentials, pool=pool, spool=spool, parts=parts)


def pacing_of(accounts: Mapping[str, AccountSettings]) -> Mapping[str, Pacing]:
    """Return how the engine is to treat the accounts, as far as their settings say."""
    return {
        name: Pacing(
            submits_per_minute=account.submits_per_minute,
            shortest_poll=account.shortest_poll,
            longest_poll=account.longest_poll,
            inline_seconds=account.inline_seconds,
            settle_seconds=account.settle_seconds,
        )
        for name, account in accounts.items()
        if isinstance(account, IbmAccountSettings)
    }


def metering_of(accounts: Mapping[str, AccountSettings]) -> Mapping[str, Metering]:
    """Return how the jobs of the accounts count in budgets."""
    return {
        name: Metering(account.metered, account.reserved_seconds_per_job, account.reserved_seconds_per_shot)
        for name, account in accounts.items()
    }


def _local(name: str, account: LocalAccountSettings, pool: WorkerPool) -> Provider:
    return LocalProvider(
        name,
        WorkerSimulators(pool, max_result_bytes=account.max_result_bytes),
        LocalSettings(
            parallel_jobs=account.parallel_jobs,
            queue_limit=account.queue_limit,
            time_limit=account.time_limit,
            memory_limit=account.memory_limit,
            max_shots=account.max_shots,
            max_circuits=account.max_circuits,
        ),
    )

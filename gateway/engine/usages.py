"""Tells what tenants have used, what is left of their budgets, and what providers say that accounts have used."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from gateway.domain.access import Caller, Role, Scope
from gateway.domain.errors import GatewayError, InvalidArgument, PermissionDenied
from gateway.domain.job import utc_now
from gateway.domain.policy import PolicySource, day_of, day_start, month_span
from gateway.domain.provider import AccountUsage, Capability, Provider
from gateway.domain.usage import Usage, UsageGroup, UsageQuery, UsageSum
from gateway.store import Store

ALL_TENANTS = "-"
"""Stands for every tenant in a request, as in AIP-159."""

_SHORTEST = timedelta(microseconds=1)
_PROVIDER_SECONDS = 3.0
"""How long a caller waits for what providers say."""


class Usages:
    """Reads the ledger, and asks providers, on behalf of callers.

    Args:
        store: Where the ledger is.
        policies: What tenants may use.
    """

    def __init__(self, store: Store, policies: PolicySource) -> None:
        self._store = store
        self._policies = policies

    async def report(
        self,
        caller: Caller,
        group: UsageGroup,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        tenant: str = "",
        account: str = "",
    ) -> Sequence[Usage]:
        """Return what was used in a period of whole days, by group; by tenant also what is left of the limits.

        Args:
            caller: Who asks.
            group: By what to add up.
            start: A moment of the first day. Default: the beginning of this month.
            end: First moment after the last day. Default: now.
            tenant: Whose usage. Default: that of the caller's tenant. `ALL_TENANTS`: everybody's.
            account: Only this account.

        Raises:
            PermissionDenied: The caller asks for others, and is no operator.
            InvalidArgument: The period ends before it begins.
        """
        whose = _whose(caller, tenant)
        now = utc_now()
        first_day = month_span(now)[0] if start is None else day_of(start)
        end_day = day_of((end or now) - _SHORTEST) + 1
        if end_day <= first_day:
            raise InvalidArgument.field("end_time", "must be after start_time")
        query = UsageQuery(first_day, end_day, group, whose, account)
        found = await self._store.usage(query)
        if not found and whose and group is UsageGroup.TENANT:
            found = (UsageSum(whose, 0, 0, 0.0, 0.0),)
        told = [_in_period(each, first_day, end_day) for each in found]
        if group is UsageGroup.TENANT and not account:
            for name in dict.fromkeys(each.tenant for each in found):
                told += await self._limits(name, now)
        return told

    async def budgets(self, caller: Caller, account: str) -> Sequence[Usage]:
        """Return what the caller's tenant has used on an account of its budgets of QPU time."""
        return await self._budgets(caller.tenant, utc_now(), account)

    async def at_providers(self, caller: Caller, providers: Sequence[Provider]) -> Mapping[str, AccountUsage]:
        """Return what providers say that their accounts have used, by account, to operators: it is of all tenants together.

        An account is missing if its provider does not tell that, or not now, and all are if the caller is no operator.
        """
        if not caller.role.grants(Scope.ADMIN):
            return {}
        asked = [provider for provider in providers if Capability.USAGE in provider.capabilities]
        told = await asyncio.gather(*map(_at_provider, asked))
        return {provider.account: usage for provider, usage in zip(asked, told, strict=True) if usage is not None}

    async def _limits(self, tenant: str, now: datetime) -> Sequence[Usage]:
        pending = await self._store.count_pending(tenant)
        limit = self._policies.of(tenant).limits.pending_jobs
        return [*await self._budgets(tenant, now), Usage("pending_jobs", tenant, None, None, pending, limit=limit)]

    async def _budgets(self, tenant: str, now: datetime, account: str = "") -> Sequence[Usage]:
        limits, day = self._policies.of(tenant).limits, day_of(now)
        told = []
        for name, limit, (first, end) in (
            ("qpu_seconds_per_day", limits.qpu_seconds_per_day, (day, day + 1)),
            ("qpu_seconds_per_month", limits.qpu_seconds_per_month, month_span(now)),
        ):
            sums = await self._store.usage(UsageQuery(first, end, tenant=tenant, account=account))
            spent = sums[0] if sums else UsageSum(tenant, 0, 0, 0.0, 0.0)
            told.append(
                Usage(
                    limit_name=name,
                    tenant=tenant,
                    start=day_start(first),
                    end=day_start(end),
                    used=spent.charged_seconds,
                    reserved=spent.reserved_seconds,
                    limit=limit,
                    jobs=spent.jobs,
                    account=account,
                )
            )
        return told


def _whose(caller: Caller, tenant: str) -> str:
    """Return whose usage is to be told; empty: everybody's."""
    if tenant in ("", caller.tenant):
        return caller.tenant
    if not caller.role.grants(Scope.ADMIN):
        raise PermissionDenied(
            f"Only operators may ask for the usage of other tenants; {caller.name!r} has the role {caller.role}.",
            metadata={"needed": Role.least_for(Scope.ADMIN), "role": caller.role, "scope": Scope.ADMIN},
        )
    return "" if tenant == ALL_TENANTS else tenant


async def _at_provider(provider: Provider) -> AccountUsage | None:
    try:
        async with asyncio.timeout(_PROVIDER_SECONDS):
            return await provider.usage()
    except (GatewayError, TimeoutError):  # callers are to hear the rest about the account all the same
        return None


def _in_period(each: UsageSum, first_day: int, end_day: int) -> Usage:
    first, end = (first_day, end_day) if each.day is None else (each.day, each.day + 1)
    return Usage(
        limit_name="qpu_seconds",
        tenant=each.tenant,
        start=day_start(first),
        end=day_start(end),
        used=each.charged_seconds,
        reserved=each.reserved_seconds,
        jobs=each.jobs,
        account=each.account,
        tag=each.tag,
    )

"""The provider accounts of the gateway, and which of them has a backend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from gateway.domain.access import Caller
from gateway.domain.backend import Backend
from gateway.domain.errors import GatewayError, NotFound, Reason
from gateway.domain.policy import Policy, PolicySource, TenantPolicy
from gateway.domain.provider import Provider

_MOST_KNOWN_TENANTS = 1024
"""So many tenants are known at a time: with tokens, their names are chosen by others."""


class Accounts:
    """Accounts, in the order of the configuration: all of them, or those that a tenant may use.

    Args:
        providers: A provider for each.
        policies: What tenants may use.
        allows_backend: Whether there is a backend of a name, as far as these accounts tell.
    """

    def __init__(
        self,
        providers: Iterable[Provider],
        policies: PolicySource = Policy(),  # noqa: B008 - it never changes
        allows_backend: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._providers = {provider.account: provider for provider in providers}
        self.policies = policies
        self._allows_backend = allows_backend
        self._permitted: dict[str, tuple[TenantPolicy, Accounts]] = {}
        """What tenants may use, by tenant, with the policy that says so."""

    def of(self, caller: Caller) -> Accounts:
        """Return what the caller's tenant may use of them. The rest is not there, in every respect."""
        policy, known = self.policies.of(caller.tenant), self._permitted.get(caller.tenant)
        if known is not None and known[0] is policy:
            return known[1]
        providers = (provider for name, provider in self._providers.items() if policy.allows_account(name))
        permitted = Accounts(providers, self.policies, policy.allows_backend)
        if len(self._permitted) >= _MOST_KNOWN_TENANTS:
            self._permitted.clear()
        self._permitted[caller.tenant] = policy, permitted
        return permitted

    @property
    def providers(self) -> Mapping[str, Provider]:
        """Providers by the name of their account."""
        return MappingProxyType(self._providers)

    def provider(self, account: str) -> Provider:
        """Return the provider of an account.

        Raises:
            NotFound: There is no such account.
        """
        try:
            return self._providers[account]
        except KeyError:
            raise NotFound(
                f"There is no account {account!r}. ListAccounts tells which there are.",
                reason=Reason.ACCOUNT_NOT_FOUND,
                metadata={"account": account},
            ) from None

    async def find_backend(self, backend: str, account: str = "") -> tuple[Provider, Backend]:
        """Return a backend and its provider: in one account, or in the first that has it.

        An account that cannot tell now is passed over: its trouble must not keep callers from the others.

        Raises:
            NotFound: There is no such account, or none has the backend.
            GatewayError: None has it, and one of them could not tell.
        """
        trouble: GatewayError | None = None
        for provider in [self.provider(account)] if account else self._providers.values():
            try:
                found = await provider.backend(backend)
                if self._allows_backend(found.name):
                    return provider, found
            except NotFound:
                continue
            except GatewayError as error:
                trouble = trouble or error
        raise trouble or NotFound.backend(backend)

    async def backends(self, account: str) -> Sequence[Backend]:
        """Return the backends of an account.

        Raises:
            NotFound: There is no such account.
            GatewayError: The account cannot tell.
        """
        return [found for found in await self.provider(account).backends() if self._allows_backend(found.name)]

    async def reload_credentials(self, names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
        """Let accounts read their keys anew.

        Returns:
            The accounts whose key changed, and by account why a key is not used. Its words name no secret.
        """
        outcomes = await asyncio.gather(
            *(self.provider(name).reload_credentials() for name in names), return_exceptions=True
        )
        changed: list[str] = []
        refused: dict[str, str] = {}
        for name, outcome in zip(names, outcomes, strict=True):
            if isinstance(outcome, GatewayError):
                refused[name] = outcome.message
            elif isinstance(outcome, BaseException):
                raise outcome
            elif outcome:
                changed.append(name)
        return changed, refused

    async def start(self) -> None:
        """Start every provider."""
        for provider in self._providers.values():
            await provider.start()

    async def close(self) -> None:
        """Stop every provider."""
        for provider in self._providers.values():
            await provider.close()

"""What the account's instance has used, read once in a while however many ask."""

from __future__ import annotations

import structlog

from gateway.domain.errors import GatewayError, Unavailable
from gateway.domain.provider import AccountUsage
from gateway.providers.ibm.client import IbmClient
from gateway.providers.ibm.remembered import Remembered
from gateway.providers.ibm.settings import IbmSettings
from gateway.providers.ibm.states import account_usage_of

_log = structlog.get_logger(__name__)

_SECONDS = 60.0
"""For how long an answer, or that there was none, is told again without asking."""


class InstanceUsage:
    """The usage of the instance of one account.

    Args:
        client: Reads it.
        settings: How long callers wait for what was never read.
    """

    def __init__(self, client: IbmClient, settings: IbmSettings) -> None:
        self._client = client
        self._account = settings.account
        self._usage = Remembered(self._read, _SECONDS, patience=settings.inline_seconds, late=self._unknown)

    def close(self) -> None:
        """Give up what is being read."""
        self._usage.close()

    async def get(self) -> AccountUsage:
        """Return what the instance has used: a minute old at most, unless the provider takes long.

        Raises:
            Unavailable: The provider does not tell now.
        """
        usage = await self._usage.get()
        if usage is None:
            raise self._unknown()
        return usage

    async def _read(self) -> AccountUsage | None:
        try:
            return account_usage_of(await self._client.usage())
        except GatewayError as error:
            _log.warning("usage_not_told", account=self._account, error=error.message)
            return None  # to be remembered as well: a provider that is in trouble is not asked more often

    def _unknown(self) -> Unavailable:
        return Unavailable(
            f"The provider of account {self._account!r} does not tell now what the account has used. Try again in a minute.",
            metadata={"account": self._account},
            retry_after=_SECONDS,
        )

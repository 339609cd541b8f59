"""How an account is: what its credentials and its calls say, put together."""

from __future__ import annotations

from datetime import datetime

from gateway.domain.errors import GatewayError, Reason, SubmissionInDoubt, Unavailable
from gateway.domain.job import utc_now
from gateway.domain.provider import AccountHealth, Health

_ORDER = (Health.SERVING, Health.DEGRADED, Health.NOT_SERVING)


class HealthRecord:
    """Remembers how an account is. `credentials` is what `TokenCache` wants as `on_health`."""

    def __init__(self) -> None:
        now = utc_now()
        self._credentials = AccountHealth(Health.SERVING, "The account was not used yet.", now)
        self._service = AccountHealth(Health.SERVING, "The provider answers.", now)

    def credentials(self, health: Health, message: str) -> None:
        """Note how the credentials are. With them, what failed for want of them is mended too; the next call tells the rest."""
        if health is Health.SERVING and self._credentials.health is not Health.SERVING:
            self.answered()
        self._credentials = _changed(self._credentials, health, message)

    def answered(self) -> None:
        """Note that the provider answered a call."""
        self._service = _changed(self._service, Health.SERVING, "The provider answers.")

    def failed(self, error: GatewayError) -> None:
        """Note a call that went wrong. What the provider refuses, it has answered; what never got there says nothing."""
        if isinstance(error, Unavailable | SubmissionInDoubt) or error.reason is Reason.INSTANCE_REFUSED:
            self._service = _changed(self._service, Health.NOT_SERVING, error.message)
        elif "http_status" in error.metadata:
            self.answered()

    def current(self) -> AccountHealth:
        """Return how the account is: as the worse of its parts."""
        return max(self._credentials, self._service, key=lambda part: _ORDER.index(part.health))


def _changed(before: AccountHealth, health: Health, message: str) -> AccountHealth:
    since: datetime = before.since if before.health is health else utc_now()
    return AccountHealth(health, message, since)

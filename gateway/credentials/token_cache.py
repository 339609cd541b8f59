"""The token of an account: exchanged once, renewed in time, replaced when its key is rotated."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from gateway.credentials.errors import CredentialError
from gateway.credentials.sources import SecretSource
from gateway.domain.errors import AccountRefused, GatewayError, Reason, Unavailable
from gateway.domain.provider import Health
from gateway.domain.secret import Secret, Token

_log = structlog.get_logger(__name__)
_random = random.SystemRandom()

Exchange = Callable[[Secret], Awaitable[Token]]
"""Exchanges a key for a token. It raises a `GatewayError` whose message callers may read; other errors are told by their class."""

OnHealth = Callable[[Health, str], None]
"""Is told how the account's credentials are, in one sentence for operators, whenever that changes."""

_RENEW_AT = (0.45, 0.55)
"""Part of a token's life after which it is renewed: at random in between, so that replicas do not do it together."""
_SHORTEST_LIFE = 1.0
"""A token with fewer seconds to live is of no use."""
_YOUNG = 10.0
"""Age in seconds up to which a refused token casts doubt on the next one too."""


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Make it not come."""


class Clock(Protocol):
    """Time as an asyncio event loop tells it: in seconds, never set back."""

    def time(self) -> float:
        """Return the seconds since some moment."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call back after some seconds."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How patient a cache is."""

    timeout: float = 30.0
    """Seconds that reading a key may take, and that an exchange may take."""
    first_retry: float = 1.0
    """Longest pause after the first failure, in seconds. It doubles with each further one; half of each pause is random."""
    longest_retry: float = 60.0
    """Longest pause after any failure, in seconds, unless the provider asks for a longer one."""


@dataclass(frozen=True, slots=True)
class _Held:
    token: Token
    since: float
    renew_at: float
    expires_at: float


class TokenCache:
    """Holds the token of one account. A `gateway.domain.secret.TokenSource`.

    One task of its own does all the work, one thing at a time; callers take the token from memory, or wait for the task together.
    So a key is exchanged once however many ask. The life of a token counts from the moment it was asked for, on this machine's
    clock, so that a wrong clock here or there does no harm.

    A key that the source holds anew is exchanged at once. Until that succeeds, the token of the key before stays in use, and is
    even renewed.

    Args:
        account: Name of the account, for messages.
        source: Where the key is kept.
        exchange: Makes a token from the key.
        on_health: Is told how the credentials are.
        pace: How patient to be.
        clock: For tests. Default: the event loop.
    """

    def __init__(
        self,
        account: str,
        source: SecretSource,
        exchange: Exchange,
        *,
        on_health: OnHealth,
        pace: Pace = Pace(),
        clock: Clock | None = None,
    ) -> None:
        self._account = account
        self._source = source
        self._make_token = exchange
        self._on_health = on_health
        self._pace = pace
        self._given_clock = clock
        self._tasks: list[asyncio.Task[None]] = []
        self._key: Secret | None = None  # the last one that worked
        self._held: _Held | None = None
        self._changed = False
        self._failure: GatewayError | None = None
        self._failures = 0
        self._due_at = 0.0
        self._refusals = 0
        self._health: tuple[Health, str] | None = None
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._begun = self._ended = 0
        """Number of renewals."""

    @property
    def _clock(self) -> Clock:
        return self._given_clock or asyncio.get_running_loop()

    def start(self) -> None:
        """Begin: read the key, exchange it, and watch the source. Returns before that is done."""
        # The source's first turn sets off the first exchange; the time is for a source that has none to tell of.
        self._due_at = self._clock.time() + self._pace.timeout
        self._tasks = [asyncio.create_task(self._work()), asyncio.create_task(self._watch())]

    async def close(self) -> None:
        """Stop. Whoever waits for a token gets an error."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._settle()

    async def token(self) -> Token:
        """Return the token; if there is none, wait for the exchange that is under way.

        Raises:
            GatewayError: There is none and the next try is still to come: the error of the last one, with `retry_after`.
            Unavailable: The cache is closed.
        """
        while True:
            if not self._tasks:
                raise Unavailable(f"The gateway has closed account {self._account!r}.", reason=Reason.SERVER_STOPPING)
            now = self._clock.time()
            if self._held is not None and now < self._held.expires_at:
                return self._held.token
            if self._failure is not None and not self._changed and now < self._due_at:
                # A copy: each caller has its own traceback and its own time to wait.
                failure = copy.copy(self._failure)
                failure.retry_after = self._due_at - now
                raise failure
            await self._settled.wait()

    def invalidate(self, token: Token) -> None:
        """Forget a token that the provider refused. One that is no longer in use is ignored.

        The next one is fetched at once; but when the provider goes on to refuse fresh tokens, after growing pauses. Call it on
        the event loop, as everything here.
        """
        held = self._held
        if held is None or held.token.secret != token.secret:
            return
        self._held = None
        young = self._clock.time() - held.since < min(_YOUNG, token.lifetime / 4)
        self._refusals = self._refusals + 1 if young else 1
        _log.info("token_refused", account=self._account, in_a_row=self._refusals)
        if self._refusals > 1:
            refused = AccountRefused(
                f"The provider refuses the tokens that it hands out for account {self._account!r}."
            )
            self._fail(refused, self._refusals - 1)
        else:
            self._due_at = self._clock.time()
        self._wake.set()

    def confirm(self, token: Token) -> None:
        """Note that the provider took a token.

        Each call with the token in use makes up for one refusal: a provider that refuses a call now and then, whatever the token,
        does not count as one that takes none.
        """
        if self._refusals and self._held is not None and self._held.token.secret == token.secret:
            self._refusals -= 1

    def reload(self) -> None:
        """Read the key now, and exchange it if it is a new one or if the last exchange failed."""
        self._changed = True
        self._wake.set()

    async def refresh(self) -> bool:
        """Read the key now, as `reload` does, and wait for the outcome.

        Returns:
            Whether it is another key than before, and works.

        Raises:
            GatewayError: It cannot be read, or the provider refuses it. What was in use stays in use.
            Unavailable: The cache is closed.
        """
        before, last = self._key, self._begun + 1
        self.reload()
        while self._ended < last:
            if not self._tasks:
                raise Unavailable(f"The gateway has closed account {self._account!r}.", reason=Reason.SERVER_STOPPING)
            await self._settled.wait()
        if self._failure is not None:
            raise copy.copy(self._failure)
        return self._key != before

    async def _watch(self) -> None:
        try:
            async for _ in self._source.changes():
                self.reload()
        except Exception:  # noqa: BLE001 - a source that fails to watch can still be read
            _log.exception("secret_source_not_watched", account=self._account, source=str(self._source))

    async def _work(self) -> None:
        while True:
            await self._until_due()
            self._begun += 1
            await self._renew()
            self._ended = self._begun
            self._settle()

    async def _until_due(self) -> None:
        while not self._changed and (delay := self._due_at - self._clock.time()) > 0:
            timer = self._clock.call_later(delay, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()
            self._wake.clear()

    def _renewal_is_due(self) -> bool:
        return self._held is None or self._clock.time() >= self._held.renew_at

    async def _renew(self) -> None:
        self._changed = False
        key: Secret | None = None
        try:
            key = await self._load()
            if key != self._key or self._renewal_is_due():
                await self._adopt(key)
        except GatewayError as failure:
            if self._key is not None and self._key != key and self._renewal_is_due():
                # What worked is kept alive until the new key works too.
                with suppress(GatewayError):
                    await self._adopt(self._key)
            self._failures += 1
            self._fail(failure, self._failures)
        else:
            self._failure, self._failures = None, 0
            self._due_at = self._held.renew_at if self._held else self._clock.time()
            self._report(Health.SERVING, "The account's token is valid.")

    async def _adopt(self, key: Secret) -> None:
        asked_at = self._clock.time()
        token = await self._exchange(key)
        self._key = key
        self._held = _Held(
            token,
            since=self._clock.time(),
            renew_at=asked_at + token.lifetime * _random.uniform(*_RENEW_AT),
            expires_at=asked_at + token.lifetime,
        )

    async def _load(self) -> Secret:
        try:
            async with asyncio.timeout(self._pace.timeout):
                return await self._source.load()
        except CredentialError as error:
            # Callers are not told where the gateway keeps its keys; operators are, through the health.
            raise AccountRefused(
                f"The key of account {self._account!r} cannot be read. An operator has to look at where it is kept; the gateway's "
                "log says what is wrong there.",
                metadata={"account": self._account},
            ) from error
        except TimeoutError:
            raise Unavailable(f"The key of account {self._account!r} cannot be read in time.") from None
        except Exception as error:  # noqa: BLE001 - the task must go on
            name = type(error).__name__
            raise Unavailable(f"The key of account {self._account!r} cannot be read: {name}.") from None

    async def _exchange(self, key: Secret) -> Token:
        subject = f"The exchange of the key of account {self._account!r} for a token"
        try:
            async with asyncio.timeout(self._pace.timeout):
                token = await self._make_token(key)
        except GatewayError:
            raise
        except TimeoutError:
            raise Unavailable(f"{subject} took longer than {self._pace.timeout:g} s.") from None
        except Exception as error:  # noqa: BLE001 - the task must go on, and the error may quote the request with the key
            raise Unavailable(f"{subject} failed: {type(error).__name__}.") from None
        if token.lifetime < _SHORTEST_LIFE:
            raise Unavailable(f"{subject} gave one that is over already.")
        return token

    def _fail(self, failure: GatewayError, attempts: int) -> None:
        pause = min(self._pace.longest_retry, self._pace.first_retry * 2.0 ** min(attempts - 1, 30))
        pause = max(pause * _random.uniform(0.5, 1.0), failure.retry_after or 0.0)
        now = self._clock.time()
        self._failure = failure
        self._due_at = now + pause
        if self._held is not None and self._held.renew_at > now:
            # A new key that fails must not keep the old one's token from its renewal.
            self._due_at = min(self._due_at, self._held.renew_at)
        cause = failure.__cause__
        detail = str(cause if isinstance(cause, CredentialError) else failure)
        _log.warning(
            "token_not_renewed", account=self._account, detail=detail, failures=attempts, retry_in=round(pause, 1)
        )
        if self._held is not None and now < self._held.expires_at:
            self._report(Health.DEGRADED, f"{detail} The token from before is still in use.")
        else:
            self._report(Health.NOT_SERVING, detail)

    def _report(self, health: Health, message: str) -> None:
        if self._health == (health, message):
            return
        self._health = (health, message)
        try:
            self._on_health(health, message)
        except Exception:  # noqa: BLE001 - whoever listens must not end the renewals
            _log.exception("health_not_reported", account=self._account)

    def _settle(self) -> None:
        # A new event for those who come from now on.
        settled, self._settled = self._settled, asyncio.Event()
        settled.set()

"""Keeps calls from a provider that is down."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

from gateway.domain.errors import GatewayError, Reason, SubmissionInDoubt, Unavailable
from gateway.providers.ibm.failures import TokenRefused

_random = random.SystemRandom()

_FAILURES = 3
"""Calls in a row that fail before the provider counts as down."""


class Breaker:
    """Lets calls through while the provider answers.

    Once some in a row found it down, it refuses all calls for a while, and then lets one through to try. Each try that fails
    doubles the while.

    Args:
        account: Name of the account, for messages.
        shortest: Seconds until the first try.
        longest: Most seconds between two tries.
        clock: Seconds since some moment.
    """

    def __init__(
        self, account: str, *, shortest: float, longest: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._account = account
        self._shortest = shortest
        self._longest = longest
        self._clock = clock
        self._failures = 0
        self._tries = 0
        self._next_try = 0.0
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether the provider counts as down."""
        return self._tries > 0

    @property
    def is_suspect(self) -> bool:
        """Whether the last call found the provider down, so that the next one may, too."""
        return self._failures > 0

    @contextmanager
    def call(self) -> Iterator[None]:
        """Watch over a call, which says by its error how the provider is.

        Raises:
            Unavailable: The provider counts as down; `retry_after` says when it is worth asking again.
        """
        trying = self.is_open
        if trying:
            self._begin_try()
        tries = self._tries
        try:
            yield
        except (GatewayError, TokenRefused) as error:
            verdict = _is_down(error)
            if verdict is False:
                self._answered()
            elif verdict and tries == self._tries:  # else others have found out already while this call was under way
                self._failed()
            raise
        else:
            self._answered()
        finally:
            if trying:
                self._trying = False

    def _begin_try(self) -> None:
        wait = self._next_try - self._clock()
        if wait > 0 or self._trying:
            raise Unavailable(
                f"The provider of account {self._account!r} does not answer. The gateway tries again by itself.",
                metadata={"account": self._account},
                retry_after=max(wait, self._shortest),
            )
        self._trying = True

    def _answered(self) -> None:
        self._failures = self._tries = 0

    def _failed(self) -> None:
        self._failures += 1
        if self._failures >= _FAILURES:
            pause = min(self._longest, self._shortest * 2.0 ** min(self._tries, 20))
            self._tries += 1
            self._next_try = self._clock() + pause * _random.uniform(0.85, 1.0)


def _is_down(error: GatewayError | TokenRefused) -> bool | None:
    """Return whether an error says that the provider is down; None if it says nothing about that."""
    if isinstance(error, TokenRefused):
        return False
    if (status := error.metadata.get("http_status")) is not None:
        # With 500 the provider fails over one request; what lies above it is said by those who stand in front of it.
        return int(status) > HTTPStatus.INTERNAL_SERVER_ERROR
    if isinstance(error, Unavailable | SubmissionInDoubt) and error.reason is not Reason.SERVER_STOPPING:
        return True
    return None

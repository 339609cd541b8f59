"""A secret, and the token that one is exchanged for."""

from __future__ import annotations

import hmac
import os
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn, Protocol, final

_MASK = "Secret(...)"

# Made anew in each process: what is derived from a secret for comparing and hashing tells nothing outside of it.
_PROCESS_KEY = os.urandom(32)
_alive: weakref.WeakValueDictionary[int, Secret] = weakref.WeakValueDictionary()


@final
class Secret:
    """A text that must not get out: a key, a password, a token.

    `reveal` is the one way to the text. Printing, logging and formatting show a mask that tells neither text nor length; pickling
    and serialising fail; a copy is the secret itself. Two secrets are equal if their texts are; comparing them takes a time that
    depends on neither.

    Args:
        text: The text. It must not be empty.

    Raises:
        ValueError: `text` is empty.
    """

    # The text lives in a closure, so that tools which walk over attributes and slots to show an object find a function.
    __slots__ = ("__weakref__", "_mark", "_open")
    _open: Callable[[], str]
    _mark: bytes

    def __init__(self, text: str) -> None:
        if not text:
            raise ValueError("a secret must not be empty")
        object.__setattr__(self, "_open", lambda: text)
        mark = hmac.digest(_PROCESS_KEY, text.encode("utf-8", "surrogatepass"), "sha256")
        object.__setattr__(self, "_mark", mark)
        _alive[id(self)] = self

    def reveal(self) -> str:
        """Return the text. Hand it to whoever needs it, and keep it nowhere."""
        return self._open()

    def __repr__(self) -> str:
        """Return the mask."""
        return _MASK

    def __format__(self, spec: str) -> str:
        """Return the mask, formatted."""
        return format(_MASK, spec)

    def __eq__(self, other: object) -> bool:
        """Return whether the other is a secret with the same text."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._mark, other._mark)

    def __hash__(self) -> int:
        """Return a number that differs from process to process."""
        return hash(self._mark)

    def __copy__(self) -> Secret:
        """Return the secret itself."""
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        """Return the secret itself."""
        return self

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Refuse: a secret cannot be changed."""
        raise AttributeError("a Secret cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        """Refuse: a secret cannot be changed."""
        raise AttributeError("a Secret cannot be changed")

    def __getstate__(self) -> NoReturn:
        """Refuse: a secret cannot be taken apart."""
        raise TypeError("a Secret cannot be pickled or serialised")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse: a secret cannot be pickled."""
        raise TypeError("a Secret cannot be pickled or serialised")


def live_secrets() -> Iterator[Secret]:
    """Yield every secret that somebody holds: what must not be found in anything that leaves the process."""
    for reference in _alive.valuerefs():
        if (secret := reference()) is not None:
            yield secret


@dataclass(frozen=True, slots=True)
class Token:
    """What a provider hands out for a key, to be sent with each request."""

    secret: Secret
    """The token itself."""
    issued_at: datetime
    """When its life began, by the provider's clock."""
    expires_at: datetime
    """When its life ends, by the provider's clock."""

    @property
    def lifetime(self) -> float:
        """Seconds from beginning to end: the same on every clock, however wrong the clock is."""
        return (self.expires_at - self.issued_at).total_seconds()


class TokenSource(Protocol):
    """Where a provider takes the token of its account from."""

    async def token(self) -> Token:
        """Return a token that is valid now.

        Raises:
            GatewayError: There is none, and why. It carries `retry_after`.
        """

    def invalidate(self, token: Token) -> None:
        """Say that the provider refused a token, as with HTTP 401. One that is no longer in use is ignored."""

    def confirm(self, token: Token) -> None:
        """Say that the provider took a token. One that is no longer in use is ignored."""

    async def refresh(self) -> bool:
        """Read the key anew and wait for the outcome. Returns whether it is another one, and works.

        Raises:
            GatewayError: It cannot be read, or is refused. What was in use stays in use.
        """

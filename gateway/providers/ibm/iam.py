"""The exchange of an API key for a token, at the provider's identity service."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import requests
from pydantic import BaseModel, Field, SecretStr, ValidationError, field_validator

from gateway.domain.errors import AccountRefused, Unavailable
from gateway.domain.secret import Secret, Token
from gateway.providers.ibm.failures import asked_wait

IAM_URL = "https://iam.cloud.ibm.com"
"""Address of the identity service."""

_GRANT = "urn:ibm:params:oauth:grant-type:apikey"
_REFUSED = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_MAX_SECONDS = 10 * 365 * 86_400


class _TokenReply(BaseModel):
    access_token: SecretStr = Field(min_length=1)
    expires_in: int = Field(gt=0, le=_MAX_SECONDS)
    expiration: int = Field(gt=0)

    @field_validator("access_token")
    @classmethod
    def _fits_into_a_header(cls, token: SecretStr) -> SecretStr:
        text = token.get_secret_value()
        if not (text.isascii() and text.isprintable()):
            raise ValueError("no token")
        return token


class _Refusal(BaseModel):
    errorCode: str = Field(default="", max_length=100)  # noqa: N815 - as on the wire


def exchange_api_key(
    session: requests.Session, url: str, key: Secret, *, account: str, timeout: tuple[float, float]
) -> Token:
    """Exchange an API key for a token. It blocks.

    Args:
        session: Connections.
        url: Address of the identity service, without a path.
        key: The key.
        account: Name of the account, for messages.
        timeout: Seconds to connect, and seconds of silence.

    Raises:
        AccountRefused: The key is not taken.
        Unavailable: There is no token, and why.
    """
    form = {"grant_type": _GRANT, "apikey": key.reveal(), "response_type": "cloud_iam"}
    try:
        reply = session.post(f"{url}/identity/token", data=form, timeout=timeout, allow_redirects=False)
    except requests.RequestException as error:
        raise Unavailable(
            f"The identity service of account {account!r} cannot be reached ({type(error).__name__}).",
            metadata={"account": account},
        ) from None
    if reply.status_code in _REFUSED:
        metadata = {"account": account, "http_status": str(reply.status_code), **_code(reply)}
        raise AccountRefused(
            f"The identity service refuses the key of account {account!r}. An operator has to look at it.",
            metadata=metadata,
        )
    if not reply.ok:
        raise Unavailable(
            f"The identity service of account {account!r} answers with HTTP {reply.status_code}.",
            metadata={"account": account, "http_status": str(reply.status_code)},
            retry_after=asked_wait(reply.headers),
        )
    try:
        issued = _TokenReply.model_validate_json(reply.content)
    except ValidationError:
        # What it says may hold a token, so no part of it goes into the message.
        raise Unavailable(
            f"The identity service of account {account!r} sent something that is no token.",
            metadata={"account": account},
        ) from None
    expires_at = datetime.fromtimestamp(issued.expiration, UTC)
    return Token(
        Secret(issued.access_token.get_secret_value()), expires_at - timedelta(seconds=issued.expires_in), expires_at
    )


class IamExchange:
    """Exchanges the keys of one account, away from the event loop.

    Args:
        account: Name of the account, for messages.
        url: Address of the identity service, without a path.
        connect_timeout: Seconds that a connection may take.
        read_timeout: Seconds of silence after which the exchange is given up.
        use_environment: Whether proxies and certificates named by the environment are used.
    """

    def __init__(
        self,
        account: str,
        url: str = IAM_URL,
        *,
        connect_timeout: float = 5.0,
        read_timeout: float = 20.0,
        use_environment: bool = True,
    ) -> None:
        self._account = account
        self._url = url.rstrip("/")
        self._timeout = (connect_timeout, read_timeout)
        self._session = requests.Session()
        self._session.trust_env = use_environment
        self._session.auth = _no_password
        # Two: an exchange that was given up may still hold the first.
        self._threads = ThreadPoolExecutor(2, thread_name_prefix=f"iam-{account}")

    async def __call__(self, key: Secret) -> Token:
        """Exchange a key for a token.

        Raises:
            Unavailable: There is no token, and why.
        """
        return await asyncio.get_running_loop().run_in_executor(
            self._threads,
            lambda: exchange_api_key(self._session, self._url, key, account=self._account, timeout=self._timeout),
        )

    def close(self) -> None:
        """Release threads and connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._session.close()


def _no_password(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep requests from looking for a password in the environment."""
    return request


def _code(reply: requests.Response) -> dict[str, str]:
    try:
        code = _Refusal.model_validate_json(reply.content).errorCode
    except ValidationError:
        return {}
    return {"provider_code": code} if code else {}

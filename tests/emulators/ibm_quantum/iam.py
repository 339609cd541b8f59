"""Keys into tokens, tokens into accounts, and the directories that tell which instances an account has."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from typing import Any

import jwt
from aiohttp import web

from tests.emulators.ibm_quantum.accounts import Account, Accounts, Instance, token_mark
from tests.emulators.ibm_quantum.codes import Code
from tests.emulators.ibm_quantum.settings import Settings
from tests.emulators.ibm_quantum.wire import ApiError, read_object, reply

_GRANT_TYPE = "urn:ibm:params:oauth:grant-type:apikey"
_ALGORITHM = "HS256"
_KEPT = 1000
_NO_SUCH_KEY = "Provided API key could not be found."


class Iam:
    """Issues tokens and knows whom they stand for.

    Args:
        accounts: The accounts.
        settings: Says how long tokens live.
    """

    def __init__(self, accounts: Accounts, settings: Settings) -> None:
        self._accounts = accounts
        self._settings = settings
        self._secret = hashlib.sha256(b"the emulator signs with this").digest()
        self._generation = 0
        self._issued = 0
        self.tokens: deque[str] = deque(maxlen=_KEPT)
        """The last tokens that were issued, oldest first."""

    def routes(self) -> list[web.RouteDef]:
        """Return the routes of IAM, search and catalogue."""
        return [
            web.post("/identity/token", self._exchange),
            web.post("/v3/resources/search", self._search),
            web.get("/api/v1/{plan_id}", self._plan),
        ]

    def reset(self) -> None:
        """Go back to the start: tokens that were made invalid are valid again."""
        self._generation = 0
        self.tokens.clear()

    def expire_tokens(self) -> None:
        """Make every token that was issued so far invalid."""
        self._generation += 1

    def account(self, request: web.Request) -> Account:
        """Return the account that the caller's token stands for.

        Raises:
            ApiError: 401, if there is no valid token.
        """
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unauthenticated("a bearer token is needed")
        try:
            claims = jwt.decode(token, self._secret, algorithms=[_ALGORITHM], options={"verify_iat": False})
        except jwt.InvalidTokenError as error:
            raise _unauthenticated(str(error)) from error
        if claims["generation"] != self._generation or claims["name"] not in self._accounts:
            raise _unauthenticated("the token was revoked")
        return self._accounts[claims["name"]]

    def instance(self, request: web.Request) -> Instance:
        """Return the caller's instance that the header `Service-CRN` names.

        Raises:
            ApiError: 401 without a valid token; 400 without the header; 403 if the instance is not the caller's.
        """
        account = self.account(request)
        crn = request.headers.get("Service-CRN")
        if not crn:
            raise ApiError(400, Code.BODY_NOT_VALID, "The header Service-CRN is missing.")
        for instance in account.instances:
            if instance.crn == crn:
                return instance
        raise ApiError(403, Code.NOT_AUTHORIZED, "You are not authorized to use this instance.", "Check the CRN.")

    async def _exchange(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("grant_type") != _GRANT_TYPE:
            raise ApiError(400, 0, "Property missing or invalid: grant_type.")
        account = self._accounts.of_key(str(form.get("apikey", "")))
        if account is None:
            raise ApiError(400, 0, _NO_SUCH_KEY)
        return reply(self._issue(account))

    def _issue(self, account: Account) -> dict[str, Any]:
        issued, lifetime = int(time.time()), self._settings.token_lifetime_seconds
        self._issued += 1
        claims = {
            "mark": token_mark(),
            "iam_id": account.user_id,
            "name": account.name,
            "account": {"bss": account.account_id},
            "generation": self._generation,
            "jti": str(self._issued),
            "iat": issued,
            "exp": issued + lifetime,
            "scope": "ibm openid",
        }
        self.tokens.append(jwt.encode(claims, self._secret, algorithm=_ALGORITHM))
        return {
            "access_token": self.tokens[-1],
            "refresh_token": "not_supported",
            "token_type": "Bearer",
            "expires_in": lifetime,
            "expiration": claims["exp"],
            "scope": claims["scope"],
        }

    async def _search(self, request: web.Request) -> web.Response:
        account = self.account(request)
        await read_object(request)
        limit = int(request.query.get("limit", "100"))
        return reply({"items": [_search_item(instance) for instance in account.instances], "limit": limit})

    async def _plan(self, request: web.Request) -> web.Response:
        self.account(request)
        instance = self._accounts.plan(request.match_info["plan_id"])
        if instance is None:
            raise ApiError(404, Code.NOT_FOUND, "There is no such catalogue entry.")
        return reply(
            {
                "id": instance.plan_id,
                "kind": "plan",
                "name": instance.plan.lower(),
                "overview_ui": {"en": {"display_name": instance.plan}},
                "metadata": {"pricing": {"type": instance.pricing}},
            }
        )


def _search_item(instance: Instance) -> dict[str, Any]:
    return {
        "crn": instance.crn,
        "name": instance.name,
        "service_plan_unique_id": instance.plan_id,
        "doc": {"extensions": {"allocations": [{"backends": []}]}},
        "tags": instance.tags,
    }


def _unauthenticated(why: str) -> ApiError:
    return ApiError(401, Code.INVALID_CREDENTIALS, f"Invalid credentials: {why}.", "Get a new token and try again.")

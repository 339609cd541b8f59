"""`BackendService`, `AccountService` and `ServerService`: what there is, and how it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import grpc
from qgateway.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    backend_pb2,
    backend_service_pb2,
    backend_service_pb2_grpc,
    server_service_pb2,
    server_service_pb2_grpc,
)

from gateway import __version__
from gateway.domain.errors import GatewayError
from gateway.domain.program import ProgramReader
from gateway.domain.provider import Provider
from gateway.engine.accounts import Accounts
from gateway.engine.jobs import Jobs
from gateway.engine.tokens import page_token, read_page_token
from gateway.engine.usages import Usages
from gateway.rpc import messages, requests
from gateway.rpc.interceptor import current_caller
from gateway.rpc.limits import Limits

_Item = TypeVar("_Item")
_Context = grpc.aio.ServicerContext[Any, Any]


class BackendService(backend_service_pb2_grpc.BackendServiceServicer):
    """Read what machines there are and how they are."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    async def ListBackends(
        self, request: backend_service_pb2.ListBackendsRequest, context: _Context
    ) -> backend_service_pb2.ListBackendsResponse:
        """List a page of backends."""
        accounts = self._accounts.of(current_caller())
        providers = (
            [accounts.provider(requests.bare_id("account", request.account, "accounts"))]
            if request.account
            else list(accounts.providers.values())
        )
        found: list[backend_pb2.Backend] = []
        troubles: dict[str, GatewayError] = {}
        for provider in providers:
            try:
                found += await _matching(accounts, provider, request)
            except GatewayError as error:
                troubles[provider.account] = error
        if len(troubles) == len(providers) > 0:
            raise next(iter(troubles.values()))
        listing = backend_service_pb2.ListBackendsRequest(
            account=request.account,
            min_num_qubits=request.min_num_qubits,
            operational_only=request.operational_only,
            view=request.view,
        ).SerializeToString(deterministic=True)
        page, token = _page(found, request.page_size, request.page_token, listing)
        return backend_service_pb2.ListBackendsResponse(
            backends=page, next_page_token=token, unreachable=[f"accounts/{account}" for account in troubles]
        )

    async def GetBackend(
        self, request: backend_service_pb2.GetBackendRequest, context: _Context
    ) -> backend_service_pb2.GetBackendResponse:
        """Read one backend."""
        account, name = requests.account_and_id("name", request.name, "backends")
        provider, backend = await self._accounts.of(current_caller()).find_backend(name, account)
        message = messages.backend(
            backend,
            await provider.backend_status(backend.name),
            full=request.view != backend_pb2.BACKEND_VIEW_BASIC,
        )
        return backend_service_pb2.GetBackendResponse(backend=message)

    async def GetBackendProperties(
        self, request: backend_service_pb2.GetBackendPropertiesRequest, context: _Context
    ) -> backend_service_pb2.GetBackendPropertiesResponse:
        """Read calibration data."""
        account, name = requests.account_and_id("name", request.name, "backends")
        provider, backend = await self._accounts.of(current_caller()).find_backend(name, account)
        at = requests.timestamp("at_time", request.at_time) if request.HasField("at_time") else None
        properties = await provider.properties(backend.name, at)
        return backend_service_pb2.GetBackendPropertiesResponse(properties=messages.backend_properties(properties))


class AccountService(account_service_pb2_grpc.AccountServiceServicer):
    """Read the caller's accounts."""

    def __init__(self, accounts: Accounts, jobs: Jobs, usages: Usages) -> None:
        self._accounts = accounts
        self._jobs = jobs
        self._usages = usages

    async def ListAccounts(
        self, request: account_service_pb2.ListAccountsRequest, context: _Context
    ) -> account_service_pb2.ListAccountsResponse:
        """List a page of accounts."""
        caller = current_caller()
        permitted = self._accounts.of(caller).providers
        page, token = _page(list(permitted.values()), request.page_size, request.page_token, b"accounts")
        at_providers = await self._usages.at_providers(caller, page)
        return account_service_pb2.ListAccountsResponse(
            accounts=[
                messages.account(
                    provider,
                    provider.health(),
                    await self._jobs.count_unfinished(provider.account),
                    await self._usages.budgets(caller, provider.account),
                    at_providers.get(provider.account),
                )
                for provider in page
            ],
            next_page_token=token,
        )

    async def GetUsage(
        self, request: account_service_pb2.GetUsageRequest, context: _Context
    ) -> account_service_pb2.GetUsageResponse:
        """Read what was used, and what is left."""
        usages = await self._usages.report(
            current_caller(),
            requests.usage_group(request),
            start=requests.usage_time(request, "start_time"),
            end=requests.usage_time(request, "end_time"),
            tenant=request.tenant,
            account=requests.bare_id("account", request.account, "accounts"),
        )
        return account_service_pb2.GetUsageResponse(usages=map(messages.usage, usages))


class ServerService(server_service_pb2_grpc.ServerServiceServicer):
    """Read what the server is."""

    def __init__(self, limits: Limits, reader: ProgramReader) -> None:
        self._limits = limits
        self._reader = reader

    async def GetServerInfo(
        self, request: server_service_pb2.GetServerInfoRequest, context: _Context
    ) -> server_service_pb2.GetServerInfoResponse:
        """Read version and limits."""
        oldest, newest = await self._reader.qpy_versions()
        info = server_service_pb2.ServerInfo(
            version=__version__,
            max_request_bytes=self._limits.max_request_bytes,
            chunk_size_bytes=self._limits.chunk_bytes,
            heartbeat_interval=messages.duration(self._limits.heartbeat_interval),
            min_qpy_version=oldest,
            max_qpy_version=newest,
            max_tags=requests.MAX_TAGS,
            max_name_length=requests.MAX_NAME_LENGTH,
            max_program_bytes=self._limits.max_program_bytes,
        )
        return server_service_pb2.GetServerInfoResponse(info=info)


async def _matching(
    accounts: Accounts, provider: Provider, request: backend_service_pb2.ListBackendsRequest
) -> list[backend_pb2.Backend]:
    """Return the backends of an account that a listing asks for."""
    full = request.view == backend_pb2.BACKEND_VIEW_FULL
    found = []
    for backend in await accounts.backends(provider.account):
        status = await provider.backend_status(backend.name)
        if backend.num_qubits < request.min_num_qubits or (request.operational_only and not status.operational):
            continue
        found.append(messages.backend(backend, status, full=full))
    return found


def _page(items: Sequence[_Item], size: int, token: str, listing: bytes) -> tuple[Sequence[_Item], str]:
    """Return one page of a short list that is made anew for each call, and the token of the next."""
    start = read_page_token(token, listing) if token else 0
    end = start + requests.page_size(size)
    return items[start:end], page_token(end, listing) if end < len(items) else ""

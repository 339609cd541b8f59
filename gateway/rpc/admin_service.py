"""`AdminService`: what operators do."""

from __future__ import annotations

from typing import Any

import grpc
from qgateway.v1 import admin_service_pb2, admin_service_pb2_grpc

from gateway.engine.accounts import Accounts
from gateway.engine.api_keys import ApiKeys
from gateway.engine.audit import AuditTrail, audit_entry
from gateway.engine.tokens import page_token, read_page_token
from gateway.rpc import messages, requests
from gateway.rpc.interceptor import current_caller

_Context = grpc.aio.ServicerContext[Any, Any]


class AdminService(admin_service_pb2_grpc.AdminServiceServicer):
    """Administer the gateway."""

    def __init__(self, accounts: Accounts, keys: ApiKeys, trail: AuditTrail) -> None:
        self._accounts = accounts
        self._keys = keys
        self._trail = trail

    async def CreateApiKey(
        self, request: admin_service_pb2.CreateApiKeyRequest, context: _Context
    ) -> admin_service_pb2.CreateApiKeyResponse:
        """Make an API key."""
        key, secret = await self._keys.create(current_caller(), **requests.new_api_key(request.api_key))
        return admin_service_pb2.CreateApiKeyResponse(api_key=messages.api_key(key), secret=secret.reveal())

    async def ListApiKeys(
        self, request: admin_service_pb2.ListApiKeysRequest, context: _Context
    ) -> admin_service_pb2.ListApiKeysResponse:
        """List a page of API keys, in the order in which they were made."""
        size, listing = requests.page_size(request.page_size), request.tenant.encode()
        cursor = read_page_token(request.page_token, listing) if request.page_token else 0
        keys = await self._keys.list(request.tenant, limit=size + 1, cursor=cursor)
        return admin_service_pb2.ListApiKeysResponse(
            api_keys=[messages.api_key(key) for _, key in keys[:size]],
            next_page_token=page_token(keys[size - 1][0], listing) if len(keys) > size else "",
        )

    async def RevokeApiKey(
        self, request: admin_service_pb2.RevokeApiKeyRequest, context: _Context
    ) -> admin_service_pb2.RevokeApiKeyResponse:
        """End an API key."""
        key_id = requests.resource_id("name", request.name, "apiKeys")
        key = await self._keys.revoke(current_caller(), key_id)
        return admin_service_pb2.RevokeApiKeyResponse(api_key=messages.api_key(key))

    async def ReloadCredentials(
        self, request: admin_service_pb2.ReloadCredentialsRequest, context: _Context
    ) -> admin_service_pb2.ReloadCredentialsResponse:
        """Read the keys of accounts anew."""
        account = requests.bare_id("account", request.account, "accounts")
        names = [self._accounts.provider(account).account] if account else list(self._accounts.providers)
        changed, refused = await self._accounts.reload_credentials(names)
        await self._trail.record(
            audit_entry(current_caller(), "credentials.reload", account or "-", collection="accounts")
        )
        return admin_service_pb2.ReloadCredentialsResponse(
            changed_accounts=[f"accounts/{name}" for name in changed],
            refused_accounts={f"accounts/{name}": reason for name, reason in refused.items()},
        )

    async def ListAuditRecords(
        self, request: admin_service_pb2.ListAuditRecordsRequest, context: _Context
    ) -> admin_service_pb2.ListAuditRecordsResponse:
        """List a page of the audit trail, newest first."""
        where = requests.audit_query(request)
        size = requests.page_size(request.page_size)
        listing = admin_service_pb2.ListAuditRecordsRequest()
        listing.CopyFrom(request)
        listing.ClearField("page_size")
        listing.ClearField("page_token")
        arguments = listing.SerializeToString(deterministic=True)
        after = read_page_token(request.page_token, arguments) if request.page_token else 0
        records = await self._trail.records(where, after=after, limit=size + 1)
        return admin_service_pb2.ListAuditRecordsResponse(
            records=map(messages.audit_record, records[:size]),
            next_page_token=page_token(records[size - 1].sequence, arguments) if len(records) > size else "",
        )

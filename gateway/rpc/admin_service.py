"""`AdminService`: what operators do."""

from __future__ import annotations

from typing import Any

import grpc
from qgateway.v1 import admin_service_pb2, admin_service_pb2_grpc

from gateway.engine.audit import AuditTrail
from gateway.engine.tokens import page_token, read_page_token
from gateway.rpc import messages, requests

_Context = grpc.aio.ServicerContext[Any, Any]


class AdminService(admin_service_pb2_grpc.AdminServiceServicer):
    """Administer the gateway."""

    def __init__(self, trail: AuditTrail) -> None:
        self._trail = trail

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

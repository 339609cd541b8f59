from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import pytest
from qgateway.v1 import admin_service_pb2, job_service_pb2

from gateway.domain.access import Role
from tests.unit.rpc.conftest import Wire, bearer


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.01)


async def outcomes(wire: Wire) -> list[tuple[str, str, str, str]]:
    records = [record.entry for record in await wire.engine.store.audit_records(limit=100)]
    return [(entry.action, entry.caller, entry.resource, entry.outcome) for entry in records]


async def test_a_refused_change_is_recorded_with_who_from_where_and_why(wire: Wire) -> None:
    request = job_service_pb2.CancelJobRequest(name="jobs/none")
    refusals = [
        (bearer(Role.VIEWER), ("CancelJob", "viewer", "jobs/none", "ROLE_MISSING")),
        ((("authorization", "Bearer wrong"),), ("CancelJob", "", "jobs/none", "API_KEY_INVALID")),
        (bearer(), ("CancelJob", "submitter", "jobs/none", "JOB_NOT_FOUND")),
    ]
    for metadata, _ in refusals:
        with pytest.raises(grpc.RpcError):
            await wire.jobs.CancelJob(request, metadata=metadata)
    expected = [record for _, record in refusals]

    async def recorded() -> bool:
        return await outcomes(wire) == expected

    await eventually(recorded)
    (first, *_) = await wire.engine.store.audit_records(limit=1)
    assert first.entry.peer.startswith("ipv4:127.0.0.1:")


async def test_a_refused_read_is_not_recorded(wire: Wire) -> None:
    with pytest.raises(grpc.RpcError):
        await wire.jobs.GetJob(job_service_pb2.GetJobRequest(name="jobs/none"), metadata=bearer())
    await wire.engine.trail.close()
    assert await outcomes(wire) == []


async def test_a_flood_of_refusals_is_counted_and_does_not_fill_the_disk(wire: Wire) -> None:
    request = job_service_pb2.CancelJobRequest(name="jobs/none")
    for _ in range(700):
        with pytest.raises(grpc.RpcError):
            await wire.jobs.CancelJob(request)

    async def counted() -> int:
        found = await wire.engine.store.audit_records(limit=1000)
        more = [int(record.entry.resource.split()[0]) for record in found if record.entry.action == "calls.refused"]
        return len(found) - len(more) + sum(more) if more else 0

    async def all_counted() -> bool:
        return await counted() == 700

    await eventually(all_counted)
    counts = [
        entry for entry in await wire.engine.store.audit_records(limit=1000) if entry.entry.action == "calls.refused"
    ]
    assert len(counts) < 20


async def test_operators_read_the_trail_newest_first_in_pages_and_that_is_recorded(wire: Wire) -> None:
    for _ in range(3):
        await wire.engine.submit()
    request = admin_service_pb2.ListAuditRecordsRequest(page_size=2)
    first = await wire.admin.ListAuditRecords(request, metadata=bearer(Role.OPERATOR))
    assert [record.action for record in first.records] == ["ListAuditRecords", "job.submit"]
    assert first.records[0].caller == "operator"
    assert len(first.records[0].hash) == 32
    request.page_token = first.next_page_token
    second = await wire.admin.ListAuditRecords(request, metadata=bearer(Role.OPERATOR))
    assert [record.action for record in second.records] == ["job.submit", "job.submit"]
    assert [record.sequence for record in (*first.records, *second.records)] == [4, 3, 2, 1]
    of_one = admin_service_pb2.ListAuditRecordsRequest(job=second.records[0].resource)
    (only,) = (await wire.admin.ListAuditRecords(of_one, metadata=bearer(Role.OPERATOR))).records
    assert only == second.records[0]

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from qgateway.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    admin_service_pb2,
    admin_service_pb2_grpc,
    backend_service_pb2,
    job_pb2,
    job_service_pb2,
    result_pb2,
    server_service_pb2,
    server_service_pb2_grpc,
    session_service_pb2,
    session_service_pb2_grpc,
)

from gateway.domain.access import Role
from gateway.domain.job import JobStatus
from tests.unit.rpc.conftest import Wire, bearer, bell, details


async def _submit(wire: Wire, **fields: object) -> job_pb2.Job:
    return (await wire.jobs.SubmitJob(bell(**fields), metadata=bearer())).job


async def _done(wire: Wire, job: job_pb2.Job) -> job_pb2.Job:
    wire.engine.provider.tell(job.provider_job_id, JobStatus.DONE)
    watch = wire.jobs.WatchJob(job_service_pb2.WatchJobRequest(name=job.name), metadata=bearer(), timeout=10)
    return [response.event.job async for response in watch if response.HasField("event")][-1]


async def test_a_submitted_job_comes_back_with_every_default_filled_in(wire: Wire) -> None:
    job = await _submit(wire, display_name="first", tags=["a", "b"], client_version={"qiskit": "2"})
    assert job.name.startswith("jobs/")
    assert (job.display_name, list(job.tags), job.creator) == ("first", ["a", "b"], "submitter")
    assert job.status == job_pb2.JOB_STATUS_QUEUED
    assert job.options.shots == 4000
    assert job.options.init_qubits
    assert job.options.meas_level == job_pb2.MEAS_LEVEL_CLASSIFIED
    assert job.queue.position == 0
    assert job.client_version == {"qiskit": "2"}
    read = await wire.jobs.GetJob(job_service_pb2.GetJobRequest(name=job.name), metadata=bearer())
    assert read.job == job


async def test_a_job_is_found_by_the_providers_id(wire: Wire) -> None:
    job = await _submit(wire)
    name = f"accounts/scripted/providerJobs/{job.provider_job_id}"
    assert (await wire.jobs.GetJob(job_service_pb2.GetJobRequest(name=name), metadata=bearer())).job == job


@pytest.mark.parametrize(
    ("fields", "violation"),
    [
        ({"program": None}, "program"),
        ({"backend": ""}, "backend"),
        ({"display_name": "x" * 10_000}, "display_name"),
        ({"tags": ["ok", ""]}, "tags[1]"),
        ({"tags": ["x" * 257]}, "tags[0]"),
        ({"tags": ["twice", "twice"]}, "tags"),
        ({"tags": [str(index) for index in range(65)]}, "tags"),
        ({"request_id": "x" * 129}, "request_id"),
        ({"options": {"meas_level": 77}}, "options.meas_level"),
        ({"options": {"transpile": 77}}, "options.transpile"),
        ({"options": {"header": {"text": "x" * 20_000}}}, "options.header"),
        ({"options": {"header": {"number": float("nan")}}}, "options.header"),
        ({"client_version": {str(index): "1" for index in range(17)}}, "client_version"),
    ],
)
async def test_a_wrong_field_is_named_and_nothing_is_left_behind(
    wire: Wire, fields: dict[str, object], violation: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.jobs.SubmitJob(bell(**fields), metadata=bearer())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    found = details(caught.value)
    assert [each.field for each in found["BadRequest"].field_violations] == [violation]
    assert found["ErrorInfo"].domain == "qgateway"
    listed = await wire.jobs.ListJobs(job_service_pb2.ListJobsRequest(), metadata=bearer())
    assert not listed.jobs


async def test_bytes_that_are_no_message_are_the_callers_mistake(wire: Wire) -> None:
    call = wire.channel.unary_unary("/qgateway.v1.JobService/GetJob")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"\xff\xff\xff", metadata=bearer())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(caught.value)["ErrorInfo"].reason == "INVALID_FIELD"


@pytest.mark.parametrize("name", ["", "jobs", "jobs/", "x/y", "jobs/a/b", "accounts/a/providerJobs/"])
async def test_a_name_of_the_wrong_form_is_an_invalid_argument(wire: Wire, name: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.jobs.GetJob(job_service_pb2.GetJobRequest(name=name), metadata=bearer())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_job_that_is_not_there_says_so_with_its_resource(wire: Wire) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.jobs.GetJob(job_service_pb2.GetJobRequest(name="jobs/none"), metadata=bearer())
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    found = details(caught.value)
    assert found["ErrorInfo"].reason == "JOB_NOT_FOUND"
    assert found["ResourceInfo"].resource_name == "none"


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer wrong"),), (("authorization", "nonsense"),)])
async def test_a_call_without_a_valid_key_is_unauthenticated(wire: Wire, metadata: tuple[tuple[str, str], ...]) -> None:
    server = server_service_pb2_grpc.ServerServiceStub(wire.channel)
    with pytest.raises(grpc.aio.AioRpcError) as unary:
        await server.GetServerInfo(server_service_pb2.GetServerInfoRequest(), metadata=metadata)
    with pytest.raises(grpc.aio.AioRpcError) as stream:
        async for _ in wire.jobs.WatchJobs(job_service_pb2.WatchJobsRequest(), metadata=metadata):
            pass
    for caught in (unary, stream):
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert details(caught.value)["ErrorInfo"].reason in {"API_KEY_MISSING", "API_KEY_INVALID"}


async def test_a_viewer_reads_and_does_not_submit(wire: Wire) -> None:
    job = await _submit(wire)
    await wire.jobs.GetJob(job_service_pb2.GetJobRequest(name=job.name), metadata=bearer(Role.VIEWER))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.jobs.SubmitJob(bell(), metadata=bearer(Role.VIEWER))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert details(caught.value)["ErrorInfo"].metadata["needed"] == "submitter"


async def test_only_an_operator_may_administer(wire: Wire) -> None:
    admin = admin_service_pb2_grpc.AdminServiceStub(wire.channel)
    with pytest.raises(grpc.aio.AioRpcError) as denied:
        await admin.ListApiKeys(admin_service_pb2.ListApiKeysRequest(), metadata=bearer())
    assert denied.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_what_the_server_does_not_have_yet_says_so(wire: Wire) -> None:
    sessions = session_service_pb2_grpc.SessionServiceStub(wire.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await sessions.CreateSession(session_service_pb2.CreateSessionRequest(), metadata=bearer())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert details(caught.value)["ErrorInfo"].reason == "RPC_NOT_IMPLEMENTED"


async def test_a_watch_tells_each_change_and_ends_well(wire: Wire) -> None:
    job = await _submit(wire)
    watch = wire.jobs.WatchJob(job_service_pb2.WatchJobRequest(name=job.name), metadata=bearer(), timeout=10)
    seen, tokens, places = [], [], []
    async for response in watch:
        tokens.append(response.resume_token)
        if response.HasField("heartbeat"):
            places.append(response.heartbeat.queue.position)
            assert response.heartbeat.interval.ToMilliseconds() == 200
            if len(places) == 1:
                wire.engine.provider.tell(job.provider_job_id, JobStatus.RUNNING)
                wire.engine.provider.tell(job.provider_job_id, JobStatus.DONE)
        else:
            seen.append(response.event)
    assert await watch.code() is grpc.StatusCode.OK
    assert [event.job.status for event in seen] == [
        job_pb2.JOB_STATUS_QUEUED,
        job_pb2.JOB_STATUS_RUNNING,
        job_pb2.JOB_STATUS_DONE,
    ]
    assert seen[0].type == job_pb2.JobEvent.TYPE_SNAPSHOT
    assert places == [0]
    resumed = wire.jobs.WatchJob(
        job_service_pb2.WatchJobRequest(name=job.name, resume_token=tokens[0]), metadata=bearer(), timeout=10
    )
    assert [response.event for response in [each async for each in resumed]] == seen[1:]


async def test_a_result_is_downloaded_in_chunks_from_any_offset(wire: Wire) -> None:
    job = await _done(wire, await _submit(wire))
    whole = f"result of {job.provider_job_id}".encode()
    for offset in (0, 1, 4, len(whole)):
        request = job_service_pb2.DownloadJobResultRequest(name=job.name, offset=offset)
        chunks = [chunk async for chunk in wire.jobs.DownloadJobResult(request, metadata=bearer())]
        assert b"".join(chunk.data for chunk in chunks) == whole[offset:]
        assert chunks[0].total_size_bytes == len(whole)
        assert chunks[0].sha256 == job.result.sha256
        assert all(len(chunk.data) <= 4 for chunk in chunks)


@pytest.mark.parametrize(
    ("offset", "code"),
    [(-1, grpc.StatusCode.INVALID_ARGUMENT), (10**9, grpc.StatusCode.OUT_OF_RANGE)],
)
async def test_a_download_cannot_begin_where_nothing_is(wire: Wire, offset: int, code: grpc.StatusCode) -> None:
    job = await _submit(wire)
    request = job_service_pb2.DownloadJobProgramRequest(name=job.name, offset=offset)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in wire.jobs.DownloadJobProgram(request, metadata=bearer()):
            pass
    assert caught.value.code() is code


async def test_a_result_that_is_not_ready_is_a_failed_precondition(wire: Wire) -> None:
    job = await _submit(wire)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.jobs.GetJobResult(job_service_pb2.GetJobResultRequest(name=job.name), metadata=bearer())
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert details(caught.value)["PreconditionFailure"].violations[0].type == "RESULT_NOT_READY"


async def test_pages_follow_each_other_and_tokens_belong_to_their_listing(wire: Wire) -> None:
    made = [(await _submit(wire, tags=[f"t{index % 2}"])).name for index in range(7)]
    found: list[str] = []
    token = ""
    while True:
        request = job_service_pb2.ListJobsRequest(page_size=3, page_token=token, oldest_first=True, skip=1)
        page = await wire.jobs.ListJobs(request, metadata=bearer())
        found += [job.name for job in page.jobs]
        if not (token := page.next_page_token):
            break
        other = job_service_pb2.ListJobsRequest(page_size=3, page_token=token)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await wire.jobs.ListJobs(other, metadata=bearer())
        assert details(caught.value)["ErrorInfo"].reason == "INVALID_PAGE_TOKEN"
    assert found == made[1:]
    tagged = job_service_pb2.ListJobsRequest(filter=job_pb2.JobFilter(all_tags=["t1"]))
    assert len((await wire.jobs.ListJobs(tagged, metadata=bearer())).jobs) == 3


@pytest.mark.parametrize(
    "filter_",
    [
        {"statuses": [99]},
        {"statuses": [job_pb2.JOB_STATUS_UNSPECIFIED]},
        {"created_after": Timestamp(seconds=10**15)},
    ],
)
async def test_a_bad_filter_is_an_invalid_argument(wire: Wire, filter_: dict[str, object]) -> None:
    request = job_service_pb2.ListJobsRequest(filter=job_pb2.JobFilter(**filter_))  # type: ignore[arg-type]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.jobs.ListJobs(request, metadata=bearer())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_update_changes_what_its_mask_names_and_nothing_else(wire: Wire) -> None:
    job = await _submit(wire, display_name="old", tags=["keep"])
    request = job_service_pb2.UpdateJobRequest(
        job=job_pb2.Job(name=job.name, display_name="new", tags=["lost"]),
        update_mask=FieldMask(paths=["display_name"]),
        etag=job.etag,
    )
    changed = (await wire.jobs.UpdateJob(request, metadata=bearer())).job
    assert (changed.display_name, list(changed.tags)) == ("new", ["keep"])
    with pytest.raises(grpc.aio.AioRpcError) as stale:
        await wire.jobs.UpdateJob(request, metadata=bearer())
    assert stale.value.code() is grpc.StatusCode.ABORTED
    for paths in ([], ["*"], ["status"]):
        wrong = job_service_pb2.UpdateJobRequest(job=job, update_mask=FieldMask(paths=paths))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await wire.jobs.UpdateJob(wrong, metadata=bearer())
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_history_comes_in_pages(wire: Wire) -> None:
    job = await _done(wire, await _submit(wire))
    request = job_service_pb2.ListJobEventsRequest(name=job.name, page_size=1)
    first = await wire.jobs.ListJobEvents(request, metadata=bearer())
    request.page_token = first.next_page_token
    second = await wire.jobs.ListJobEvents(request, metadata=bearer())
    events = [*first.events, *second.events]
    assert [event.job.status for event in events] == [
        job_pb2.JOB_STATUS_QUEUED,
        job_pb2.JOB_STATUS_DONE,
    ]
    assert not second.next_page_token


async def test_metrics_tell_when_each_step_was_reached(wire: Wire) -> None:
    job = await _done(wire, await _submit(wire))
    metrics = await wire.jobs.GetJobMetrics(job_service_pb2.GetJobMetricsRequest(name=job.name), metadata=bearer())
    assert [step.status for step in metrics.steps] == [
        job_pb2.JOB_STATUS_INITIALIZING,
        job_pb2.JOB_STATUS_QUEUED,
        job_pb2.JOB_STATUS_DONE,
    ]
    assert metrics.steps[-1].reach_time == job.end_time


async def test_accounts_and_backends_are_listed(wire: Wire) -> None:
    accounts = account_service_pb2_grpc.AccountServiceStub(wire.channel)
    await _submit(wire)
    (account,) = (await accounts.ListAccounts(account_service_pb2.ListAccountsRequest(), metadata=bearer())).accounts
    assert (account.name, account.pending_jobs) == ("accounts/scripted", 1)
    (backend,) = (
        await wire.backends.ListBackends(backend_service_pb2.ListBackendsRequest(), metadata=bearer())
    ).backends
    for name in (backend.name, f"backends/{backend.backend_id}"):
        read = await wire.backends.GetBackend(backend_service_pb2.GetBackendRequest(name=name), metadata=bearer())
        assert read.backend.num_qubits == 5
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.backends.GetBackend(backend_service_pb2.GetBackendRequest(name="backends/none"), metadata=bearer())
    assert details(caught.value)["ErrorInfo"].reason == "BACKEND_NOT_FOUND"


async def test_a_bug_is_internal_with_an_incident_and_without_its_inside(wire: Wire) -> None:
    async def broken(job_id: str) -> None:
        raise RuntimeError("the inside")

    wire.engine._hub.job = broken  # type: ignore[method-assign, assignment]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await wire.jobs.GetJob(job_service_pb2.GetJobRequest(name="jobs/x"), metadata=bearer())
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "the inside" not in str(caught.value)
    assert details(caught.value)["ErrorInfo"].metadata["incident"]


@pytest.mark.parametrize(("most", "sent"), [(0, False), (5, False), (1000, True)])
async def test_a_watch_sends_a_small_result_along_if_it_is_asked_to(wire: Wire, most: int, sent: bool) -> None:
    job = await _submit(wire)
    result = result_pb2.JobResult(job=job.name, success=True)
    wire.engine.provider.results[job.provider_job_id] = result.SerializeToString()
    request = job_service_pb2.WatchJobRequest(name=job.name, max_result_bytes=most)
    for _ in range(2):  # as the job ends, and after it has ended
        wire.engine.provider.tell(job.provider_job_id, JobStatus.DONE)
        responses = [each async for each in wire.jobs.WatchJob(request, metadata=bearer(), timeout=10)]
        assert [each.HasField("result") for each in responses] == [False] * (len(responses) - 1) + [sent]
        assert not sent or responses[-1].result == result


async def test_the_server_tells_its_limits(wire: Wire) -> None:
    server = server_service_pb2_grpc.ServerServiceStub(wire.channel)
    info = (await server.GetServerInfo(server_service_pb2.GetServerInfoRequest(), metadata=bearer(Role.VIEWER))).info
    assert (info.min_qpy_version, info.max_qpy_version, info.chunk_size_bytes) == (13, 18, 4)
    assert info.heartbeat_interval.ToMilliseconds() == 200


@pytest.mark.parametrize("name", ["statuses", "backends", "accounts", "all_tags", "any_tags"])
async def test_a_filter_that_would_keep_others_waiting_is_refused(wire: Wire, name: str) -> None:
    values: list[Any] = [job_pb2.JOB_STATUS_DONE] * 65 if name == "statuses" else [str(index) for index in range(65)]
    long, short = (job_pb2.JobFilter(**{name: values[:count]}) for count in (65, 64))
    with pytest.raises(grpc.RpcError) as listing:
        await wire.jobs.ListJobs(job_service_pb2.ListJobsRequest(filter=long), metadata=bearer())
    with pytest.raises(grpc.RpcError) as watching:
        await wire.jobs.WatchJobs(job_service_pb2.WatchJobsRequest(filter=long), metadata=bearer()).read()
    for caught in (listing.value, watching.value):
        assert caught.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert caught.details() == f"filter.{name}: at most 64 values"
    listed = await wire.jobs.ListJobs(job_service_pb2.ListJobsRequest(filter=short), metadata=bearer())
    assert list(listed.jobs) == []


async def test_a_header_that_is_far_too_large_is_refused_before_it_is_worked_through(wire: Wire) -> None:
    request = bell()
    request.options.header.update({str(number): number for number in range(20_000)})
    with pytest.raises(grpc.RpcError) as header:
        await wire.jobs.SubmitJob(request, metadata=bearer())
    assert "on the wire" in str(header.value.details())
    request.options.header.Clear()
    request.options.header.update({"fits": [0] * 3_000})
    assert (await wire.jobs.SubmitJob(request, metadata=bearer())).job.name

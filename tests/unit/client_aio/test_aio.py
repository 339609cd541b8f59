"""The objects for asyncio: the members of those for threads, with `await`."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import qgateway
from qgateway import aio
from qgateway.exceptions import (
    IBMBackendValueError,
    IBMError,
    IBMJobFailureError,
    IBMJobInvalidStateError,
    IBMJobNotFoundError,
    IBMJobTimeoutError,
    IBMNotAuthorizedError,
)
from qgateway.v1 import (
    backend_pb2,
    backend_service_pb2,
    job_pb2,
    job_service_pb2,
    session_pb2,
    session_service_pb2,
)
from qiskit import QuantumCircuit, transpile
from qiskit.providers import JobStatus, QiskitBackendNotFoundError

from tests.support.refusals import refusal
from tests.unit.client.scripted_gateway import JOB, JOB_ID, ScriptedGateway, bell_result, text_program

BELL = QuantumCircuit(2, 2, name="bell")
BELL.h(0)
BELL.cx(0, 1)
BELL.measure([0, 1], [0, 1])


@pytest.fixture
def scripted() -> Iterator[ScriptedGateway]:
    server = ScriptedGateway()
    server.move("QUEUED")
    yield server
    server.stop()


@pytest.fixture
async def provider(scripted: ScriptedGateway) -> AsyncIterator[aio.GatewayProvider]:
    async with aio.GatewayProvider(scripted.target, "canary-0123456789") as made:
        yield made


@pytest.fixture
async def job(provider: aio.GatewayProvider, scripted: ScriptedGateway) -> aio.GatewayCircuitJob:
    found = await provider.retrieve_job(JOB_ID)
    scripted.calls.clear()
    return found


def members(kind: type) -> dict[str, Any]:
    names = (name for name in dir(kind) if not name.startswith("_"))
    return {name: inspect.getattr_static(kind, name) for name in names}


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    if isinstance(function, staticmethod):
        function = function.__func__
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", ["GatewayProvider", "GatewayBackend", "GatewayCircuitJob", "Session"])
def test_every_member_has_a_twin_with_the_same_parameters(name: str) -> None:
    ours, theirs = members(getattr(aio, name)), members(getattr(qgateway, name))
    assert theirs.keys() <= ours.keys()
    for member, original in theirs.items():
        if callable(original) or isinstance(original, staticmethod):
            assert parameters(ours[member]) == parameters(original), member


def test_importing_it_is_light_and_its_names_are_public() -> None:
    code = "import sys, qgateway.aio; print([name for name in ('grpc', 'qiskit', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"
    assert all(hasattr(aio, name) for name in aio.__all__)
    with pytest.raises(AttributeError):
        _ = aio.nonsense  # type: ignore[attr-defined]


async def test_circuits_go_out_and_counts_come_back(provider: aio.GatewayProvider, scripted: ScriptedGateway) -> None:
    backend = await provider.get_backend("machine")
    job = await backend.run(transpile(BELL, backend), shots=4, job_tags=["a"], job_name="bell")
    assert (job.job_id(), job.name(), job.tags()) == (JOB_ID, "bell", ["a"])
    assert await job.backend() is backend
    scripted.result = bell_result()
    scripted.move("DONE")
    result = await job.result()
    assert result.get_counts() == {"00": 2, "11": 2}
    assert await job.result() is result
    (circuit,) = await job.circuits()
    assert circuit == transpile(BELL, backend)
    assert await job.done()
    assert await job.in_final_state()


async def test_an_argument_that_is_wrong_is_refused_as_with_threads(provider: aio.GatewayProvider) -> None:
    backend = await provider.get_backend("machine")
    with pytest.raises(IBMBackendValueError, match="shots"):
        await backend.run(BELL, shots=0)


async def test_a_backend_knows_its_target_without_asking(
    provider: aio.GatewayProvider, scripted: ScriptedGateway
) -> None:
    (backend,) = await provider.backends(simulator=False)
    scripted.calls.clear()
    assert backend.target.num_qubits == backend.num_qubits == 3
    assert backend.configuration().max_shots == 100_000
    assert scripted.calls == []
    assert scripted.requests["ListBackends"][0].view == backend_pb2.BACKEND_VIEW_FULL


async def test_backends_are_found_by_what_they_are(provider: aio.GatewayProvider) -> None:
    assert [each.name for each in await provider.backends(filters=lambda each: each.num_qubits > 2)] == ["machine"]
    assert await provider.backends("other") == []
    assert (await provider.least_busy()).name == (await provider.get_backend()).name == "machine"
    assert (await provider.backend("machine")).name == "machine"
    with pytest.raises(QiskitBackendNotFoundError):
        await provider.get_backend("other")
    with pytest.raises(IBMError, match="No backend"):
        await aio.least_busy([])


async def test_a_backend_tells_its_status_and_properties(
    provider: aio.GatewayProvider, scripted: ScriptedGateway
) -> None:
    backend = await provider.get_backend("machine")
    assert (await backend.status()).pending_jobs == 2
    nothing = backend_service_pb2.GetBackendPropertiesResponse()
    scripted.on("GetBackendProperties", lambda _request, _context: nothing)
    assert await backend.properties() is None


async def test_jobs_are_listed_up_to_the_limit(provider: aio.GatewayProvider, scripted: ScriptedGateway) -> None:
    page = job_service_pb2.ListJobsResponse(jobs=[job_pb2.Job(name=JOB)] * 3, next_page_token="next")
    scripted.on("ListJobs", lambda _request, _context: page)
    assert len(await provider.jobs(limit=5, status="pending")) == 5
    assert scripted.count("ListJobs") == 2
    assert await provider.jobs(legacy=True) == []


async def test_waiting_is_a_watch_that_tells_of_each_change(
    job: aio.GatewayCircuitJob, scripted: ScriptedGateway
) -> None:
    seen: list[str] = []

    async def follow(_job_id: str, status: JobStatus, watched: aio.GatewayCircuitJob) -> None:
        assert watched is job
        seen.append(status.name)
        if status == JobStatus.QUEUED:
            scripted.move("RUNNING")
        elif status == JobStatus.RUNNING:
            scripted.move("DONE")

    await job.wait_for_final_state(callback=follow)
    assert seen == ["QUEUED", "RUNNING", "DONE"]
    assert scripted.calls == ["WatchJob"]
    assert scripted.requests["WatchJob"][0].known_revision == 0


async def test_many_jobs_are_awaited_at_once(provider: aio.GatewayProvider, scripted: ScriptedGateway) -> None:
    jobs = [await provider.retrieve_job(JOB_ID) for _ in range(8)]
    waiting = [asyncio.create_task(each.wait_for_final_state()) for each in jobs]
    while scripted.count("WatchJob") < 8:
        await asyncio.sleep(0.01)
    assert {request.known_revision for request in scripted.requests["WatchJob"]} == {scripted.job.revision}
    scripted.move("DONE")
    await asyncio.gather(*waiting)


async def test_a_result_that_two_tasks_ask_for_is_downloaded_once(
    job: aio.GatewayCircuitJob, scripted: ScriptedGateway
) -> None:
    scripted.result = bell_result()
    scripted.move("DONE")
    first, second = await asyncio.gather(job.result(), job.result())
    assert first is second
    assert scripted.count("DownloadJobResult") == 1
    assert await job.result(refresh=True) is not first


async def test_the_timeout_ends_the_wait(job: aio.GatewayCircuitJob) -> None:
    begin = time.monotonic()
    with pytest.raises(IBMJobTimeoutError):
        await job.wait_for_final_state(timeout=0.2)
    assert time.monotonic() - begin >= 0.2


async def test_no_time_at_all_checks_once(job: aio.GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    with pytest.raises(IBMJobTimeoutError):
        await job.wait_for_final_state(timeout=0)
    assert scripted.calls == ["GetJob"]
    scripted.move("DONE")
    await job.wait_for_final_state(timeout=0)


async def test_a_task_that_waits_can_be_cancelled(job: aio.GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    waiting = asyncio.create_task(job.wait_for_final_state())
    while not scripted.count("WatchJob"):
        await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_failed_job_and_a_cancelled_one_have_no_result(
    provider: aio.GatewayProvider, scripted: ScriptedGateway
) -> None:
    job = await provider.retrieve_job(JOB_ID)
    scripted.move("ERROR", failure=job_pb2.JobFailure(reason="PROVIDER_ERROR", message="Too hot.", provider_code="42"))
    with pytest.raises(IBMJobFailureError, match="Too hot"):
        await job.result()
    assert await job.error_message() == "Error code 42; Too hot."
    scripted.move("QUEUED")
    job = await provider.retrieve_job(JOB_ID)
    assert await job.cancel() is True
    assert await job.cancelled()
    with pytest.raises(IBMJobInvalidStateError, match="cancelled"):
        await job.result()
    with pytest.raises(IBMJobInvalidStateError):
        await job.cancel()


async def test_name_and_tags_are_changed(job: aio.GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    assert await job.update_name("ghz") == "ghz" == job.name()
    assert await job.update_tags(["a", "b", "a"]) == ["a", "b"]
    scripted.move(tags=["ibm_composite_job_1"])  # the handle does not know of this change
    assert await job.update_tags(["c"]) == ["ibm_composite_job_1", "c"]
    with pytest.raises(IBMJobInvalidStateError):
        await job.update_tags("a")  # type: ignore[arg-type]


async def test_the_queue_is_asked_for(job: aio.GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    assert await job.queue_position() is None
    scripted.move(queue=job_pb2.QueueInfo(position=0))
    assert await job.queue_position(refresh=True) == 0
    queue = await job.queue_info()
    assert queue is not None
    assert queue.position == 0


async def test_what_the_gateway_keeps_of_a_job_is_read(job: aio.GatewayCircuitJob, scripted: ScriptedGateway) -> None:
    events = job_service_pb2.ListJobEventsResponse(events=[job_pb2.JobEvent(revision=1, message="new")])
    scripted.on("ListJobEvents", lambda _request, _context: events)
    scripted.on("GetJobLogs", lambda _request, _context: job_service_pb2.GetJobLogsResponse(text="log"))
    scripted.program = text_program("OPENQASM 3.0;")
    assert [event.message for event in await job.events()] == ["new"]
    assert await job.logs() == "log"
    assert await job.circuits() == ["OPENQASM 3.0;"]
    assert await job.properties() is None
    assert await job.usage_estimation() == {"quantum_seconds": None}
    steps = await job.time_per_step()
    assert steps is not None
    assert steps["created"] == job.creation_date()
    assert (await job.metrics())["client_version"] == {}
    await job.refresh()
    assert await job.status() == JobStatus.QUEUED
    assert not await job.running()


async def test_a_session_holds_the_backend_until_it_is_closed(
    provider: aio.GatewayProvider, scripted: ScriptedGateway
) -> None:
    made = session_service_pb2.CreateSessionResponse(session=session_pb2.Session(name="sessions/s1"))
    scripted.on("CreateSession", lambda _request, _context: made)
    scripted.on("CloseSession", lambda _request, _context: session_service_pb2.CloseSessionResponse())
    scripted.on("CancelSession", lambda _request, _context: session_service_pb2.CancelSessionResponse())
    backend = await provider.get_backend("machine")
    async with await backend.open_session("1h") as session:
        assert (await backend.run(BELL)).session_id == session.session_id == "s1"
    assert backend.session is None
    assert not session.active
    assert scripted.count("CloseSession") == 1
    ended = await backend.open_session(mode="batch")
    await ended.cancel()
    with pytest.raises(RuntimeError, match="closed"):
        await backend.run(BELL)
    await backend.close_session()
    await backend.cancel_session()
    assert scripted.count("CancelSession") == 1


async def test_errors_are_those_of_the_client_for_threads(
    provider: aio.GatewayProvider, scripted: ScriptedGateway
) -> None:
    scripted.on("GetJob", refusal("NOT_FOUND", reason="JOB_NOT_FOUND"))
    with pytest.raises(IBMJobNotFoundError) as caught:
        await provider.retrieve_job("other")
    assert (caught.value.reason, caught.value.job_id) == ("JOB_NOT_FOUND", "other")
    scripted.on("ListAccounts", refusal("UNAUTHENTICATED", reason="API_KEY_INVALID"))
    with pytest.raises(IBMNotAuthorizedError):
        await provider.instances()


async def test_a_job_is_copied_pickled_and_compared(job: aio.GatewayCircuitJob) -> None:
    for twin in (copy.deepcopy(job), pickle.loads(pickle.dumps(job))):  # noqa: S301
        assert twin == job
        assert hash(twin) == hash(job)
        assert await twin.status() == JobStatus.QUEUED
    assert b"canary" not in pickle.dumps(job)
    assert repr(job) == f"<GatewayCircuitJob('{JOB_ID}')>"


async def test_the_backend_of_a_job_that_is_gone_is_stood_in_for(
    job: aio.GatewayCircuitJob, scripted: ScriptedGateway
) -> None:
    scripted.on("GetBackend", refusal("NOT_FOUND", reason="BACKEND_NOT_FOUND"))
    assert (await job.backend()).name == "machine"

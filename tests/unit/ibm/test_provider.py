"""The provider over a real emulator of the service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from qgateway.v1 import program_pb2, result_pb2
from qiskit import QuantumCircuit

from gateway.domain.errors import (
    GatewayError,
    InvalidArgument,
    NotFound,
    OutOfRange,
    Reason,
    ResourceExhausted,
    SubmissionInDoubt,
    Unavailable,
)
from gateway.domain.job import JobStatus, RunOptions, SchedulingMode
from gateway.domain.provider import Health, Provider, ProviderJobQuery
from gateway.domain.session import SessionState
from gateway.providers.ibm.bodies import new_job
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.waiting import until
from tests.unit.emulators.caller import sampler_params
from tests.unit.ibm.conftest import Bench
from tests.unit.ibm.make import PROGRAM, raw_program, raw_submission
from tests.unit.workers.make import qpy_program


async def test_it_is_a_provider(bench: Bench) -> None:
    provider: Provider = bench.provider
    assert (provider.account, provider.kind) == ("alpha", "ibm")
    await provider.start()
    assert [update async for update in provider.updates()] == []
    await bench.backend()
    assert provider.health().health is Health.SERVING


async def test_a_job_bears_hidden_tags_that_nobody_can_imitate(bench: Bench, control: EmulatorControl) -> None:
    job_id = await bench.submit(PROGRAM, tags=("a", "qgw-other", "qgateway"), marker="mark")
    assert control.job(job_id)["tags"] == ["qgw-mark", "qgateway", "a"]
    assert await bench.provider.find("mark") == (job_id,)
    assert await bench.provider.find("other") == ()
    told = await bench.provider.job(job_id)
    assert (told.tags, told.marker, told.program_id, told.backend) == (("a",), "mark", "executor", "ibm_alder")


def test_the_provider_options_are_fields_of_the_request() -> None:
    options = {"max_execution_time": 60.0, "log_level": "INFO", "private": True, "image": "a:b", "calibration_id": "c"}
    submission = replace(raw_submission(b"{}"), options=RunOptions(provider_options=options), session="s")
    assert orjson.loads(new_job(submission, "sampler", b"{}", "qgateway")) == {
        "program_id": "sampler",
        "backend": "ibm_alder",
        "tags": ["qgw-m1", "qgateway"],
        "cost": 60,
        "private": True,
        "calibration_id": "c",
        "runtime": "a:b",
        "log_level": "INFO",
        "session_id": "s",
        "params": {},
    }


async def test_hidden_tags_survive_a_change_of_tags(bench: Bench, control: EmulatorControl) -> None:
    job_id = await bench.submit(PROGRAM, tags=("a",), marker="mark")
    await bench.provider.set_tags(job_id, ("b", "qgw-fake"))
    assert control.job(job_id)["tags"] == ["qgw-mark", "qgateway", "b"]
    with pytest.raises(NotFound):
        await bench.provider.set_tags("nothing", ())


async def test_a_job_whose_answer_was_lost_is_found_by_its_marker(bench: Bench, control: EmulatorControl) -> None:
    submission = await bench.submission(PROGRAM, marker="lost")
    control.fault("POST /jobs", "drop", when="after")
    with pytest.raises(SubmissionInDoubt):
        await bench.provider.submit(submission)
    (job,) = control.jobs()
    assert await bench.provider.find("lost") == (job["id"],)
    control.fault("POST /jobs", "drop", when="before")
    with pytest.raises(SubmissionInDoubt):
        await bench.provider.submit(replace(submission, marker="never"))
    assert await bench.provider.find("never") == ()
    assert len(control.jobs()) == 1


async def test_an_answer_cut_at_any_byte_is_an_answer_or_a_doubt_and_never_a_second_job(
    new_bench: Callable[..., Bench], control: EmulatorControl
) -> None:
    bench = new_bench()
    control.settings(manual=True)
    parameters = orjson.dumps(sampler_params())
    await bench.provider.submit(raw_submission(parameters, "whole"))
    size = control.calls("POST /jobs")[0]["reply_bytes"]
    for end in range(0, size + 1, 3):
        marker = f"cut-{end}"
        control.fault("POST /jobs", "cut", bytes=end, reset=end % 2 == 0)
        try:
            told = (await bench.provider.submit(raw_submission(parameters, marker))).provider_job_id
        except SubmissionInDoubt:
            told = ""
        (found,) = await bench.provider.find(marker)
        assert told in {"", found}, f"cut after {end} bytes"
    assert control.counts()["POST /jobs"] == len(control.jobs())


async def test_the_last_byte_of_an_answer_is_enough(bench: Bench, control: EmulatorControl) -> None:
    control.settings(manual=True)
    control.fault("POST /jobs", "cut", body_bytes=10_000)
    update = await bench.provider.submit(raw_submission(orjson.dumps(sampler_params())))
    assert [job["id"] for job in control.jobs()] == [update.provider_job_id]


async def test_a_closed_provider_makes_no_more_calls(bench: Bench) -> None:
    await bench.backend()
    await bench.provider.close()
    with pytest.raises(Unavailable) as caught:
        await bench.provider.find("m")
    assert caught.value.reason is Reason.SERVER_STOPPING


async def test_a_result_is_read_once_until_it_is_forgotten(bench: Bench, control: EmulatorControl) -> None:
    control.settings(results_once=True)
    job_id = await bench.submit(PROGRAM)
    await bench.ended(job_id)
    first = await bench.provider.fetch_result(job_id)
    assert result_pb2.JobResult.FromString(first).experiments
    assert result_pb2.JobResult.FromString(await bench.provider.fetch_result(job_id)).experiments
    assert control.counts()["GET /jobs/{job_id}/results"] == 1
    await bench.provider.forget(job_id)
    with pytest.raises(NotFound) as caught:
        await bench.provider.fetch_result(job_id)
    assert caught.value.reason is Reason.RESULT_ABSENT


@pytest.mark.parametrize("moment", ["as it is sent", "as it is stored"])
async def test_a_result_larger_than_the_account_takes_in_is_refused_and_the_account_is_well(
    moment: str, new_bench: Callable[..., Bench]
) -> None:
    # Outcomes that are all equal travel compressed: they are small on the way, and large in the store.
    shots, most = (16, 100) if moment == "as it is sent" else (50_000, 20_000)
    bench = new_bench(max_result_bytes=most)
    circuit = QuantumCircuit(1, 1)
    circuit.measure(0, 0)
    job_id = await bench.submit(qpy_program(circuit), RunOptions(shots=shots, transpile=1))
    await bench.ended(job_id)
    with pytest.raises(OutOfRange, match=f"{most} bytes that account 'alpha' takes in") as caught:
        await bench.provider.fetch_result(job_id)
    assert caught.value.reason is Reason.RESULT_LIMIT_EXCEEDED
    assert bool(bench.spool.get("alpha", job_id)) == (moment == "as it is stored")
    assert bench.provider.health().health is Health.SERVING
    assert result_pb2.JobResult.FromString(await new_bench().provider.fetch_result(job_id)).success


async def test_a_result_is_kept_although_whoever_asked_for_it_is_gone(bench: Bench, control: EmulatorControl) -> None:
    control.settings(results_once=True)
    job_id = await bench.submit(PROGRAM)
    await bench.ended(job_id)
    fault = control.fault("GET /jobs/{job_id}/results", "delay")
    asking = asyncio.create_task(bench.provider.fetch_result(job_id))
    await until(lambda: control.faults()[0]["hits"])
    asking.cancel()
    await asyncio.wait([asking])
    control.clear_faults(fault)
    await until(lambda: bench.spool.get("alpha", job_id))
    assert result_pb2.JobResult.FromString(await bench.provider.fetch_result(job_id)).success
    assert control.counts()["GET /jobs/{job_id}/results"] == 1


@pytest.mark.parametrize(
    "fault", [{"action": "garble", "body": "{"}, {"action": "garble", "body": "{}"}, {"action": "cut", "body_bytes": 9}]
)
async def test_a_result_that_comes_broken_is_asked_for_again(
    bench: Bench, control: EmulatorControl, fault: dict[str, Any]
) -> None:
    job_id = await bench.submit(PROGRAM)
    await bench.ended(job_id)
    control.fault("GET /jobs/{job_id}/results", **fault)
    with pytest.raises(Unavailable):
        await bench.provider.fetch_result(job_id)
    assert result_pb2.JobResult.FromString(await bench.provider.fetch_result(job_id)).success


async def test_cancelling_tells_what_happened(bench: Bench, control: EmulatorControl) -> None:
    control.settings(manual=True)
    job_id = await bench.submit(PROGRAM)
    update = await bench.provider.cancel(job_id)
    assert update.status is JobStatus.CANCELLED
    assert update.failure is not None
    assert update.failure.reason is Reason.CANCELLED_BY_CALLER
    control.settings(manual=False)
    done = await bench.submit(PROGRAM)
    await bench.ended(done)
    assert (await bench.provider.cancel(done)).status is JobStatus.DONE
    with pytest.raises(NotFound):
        await bench.provider.cancel("nothing")


async def test_metrics_logs_and_the_place_in_the_queue_are_read(bench: Bench, control: EmulatorControl) -> None:
    control.settings(manual=True, queue_positions=True)
    first, second = await bench.submit(PROGRAM), await bench.submit(PROGRAM, marker="m2")
    places = [await bench.provider.queue_place(job_id) for job_id in (first, second)]
    assert [place and place.position for place in places] == [0, 1]
    assert places[0] is not None
    assert places[0].estimated_start is not None
    control.advance(first, "Completed")
    values = (await bench.provider.metrics(first)).values
    assert {"queued_at", "started_at", "ended_at", "qiskit_version", "qpu_charge_time_seconds"} <= set(values)
    assert "ibm_alder" in await bench.provider.logs(first)
    assert await bench.provider.logs("nothing") == ""
    unknown = await bench.provider.metrics("nothing")
    assert (unknown.values, unknown.settled) == ({}, False)
    assert await bench.provider.queue_place("nothing") is None
    control.settings(queue_positions=False)
    assert await bench.provider.queue_place(second) is None


async def test_jobs_of_others_are_listed_and_their_program_is_given(bench: Bench, control: EmulatorControl) -> None:
    control.settings(manual=True)
    mine = await bench.submit(PROGRAM, tags=("x",))
    listed = await bench.provider.list_jobs(ProviderJobQuery(backend="ibm_alder", tags=("x",), pending=True))
    assert [job.update.provider_job_id for job in listed] == [mine]
    assert await bench.provider.list_jobs(ProviderJobQuery(created_to=datetime(2020, 1, 1, tzinfo=UTC))) == ()
    program = program_pb2.Program.FromString(await bench.provider.fetch_program(mine))
    assert program.raw.program_id == "executor"
    assert orjson.loads(program.raw.parameters)["schema_version"] == "v2.0"
    private = RunOptions(shots=1, transpile=0, provider_options={"private": True})
    with pytest.raises(NotFound):
        await bench.provider.fetch_program(await bench.submit(PROGRAM, private, marker="m2"))


async def test_a_job_is_deleted_upstream_when_it_is_final(bench: Bench, control: EmulatorControl) -> None:
    control.settings(manual=True)
    job_id = await bench.submit(PROGRAM)
    with pytest.raises(GatewayError):
        await bench.provider.delete(job_id)
    await bench.provider.cancel(job_id)
    await bench.provider.delete(job_id)
    await bench.provider.delete(job_id)
    assert await bench.provider.poll((job_id,)) == ()


async def test_a_raw_program_and_its_result_pass_byte_for_byte(bench: Bench, control: EmulatorControl) -> None:
    parameters = orjson.dumps(sampler_params()).replace(b'"version"', b'  "version" ')
    job_id = await bench.submit(raw_program(parameters), RunOptions())
    await bench.ended(job_id)
    result = result_pb2.JobResult.FromString(await bench.provider.fetch_result(job_id))
    job = control.job(job_id)
    assert job["params"] == orjson.loads(parameters)
    assert result.raw.payload.decode() == job["results"]
    assert (result.job, result.backend, result.success) == ("jobs/m1", "ibm_alder", True)


@pytest.mark.parametrize("parameters", [b"", b"[]", b'{}, "tags": []', b'{"a": NaN}'])
async def test_raw_parameters_that_are_no_object_are_refused(
    bench: Bench, control: EmulatorControl, parameters: bytes
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await bench.provider.submit(raw_submission(parameters))
    assert caught.value.violations[0].field == "program.raw.parameters"
    assert control.jobs() == []


async def test_sessions_and_batches_open_take_jobs_and_end(bench: Bench, control: EmulatorControl) -> None:
    session = await bench.provider.open_session("ibm_alder", SchedulingMode.SESSION, 900)
    assert (session.mode, session.max_seconds, session.accepting_jobs) == (SchedulingMode.SESSION, 900, True)
    assert session.created_at is not None
    job_id = await bench.submit(PROGRAM, session=session.id)
    await bench.ended(job_id)
    assert (await bench.provider.job(job_id)).session == session.id
    closed = await bench.provider.close_session(session.id)
    assert (closed.accepting_jobs, closed.state) == (False, SessionState.CLOSED)
    batch = await bench.provider.open_session("ibm_alder", SchedulingMode.BATCH)
    assert batch.mode is SchedulingMode.BATCH
    assert (await bench.provider.cancel_session(batch.id)).state is SessionState.CLOSED
    with pytest.raises(NotFound) as caught:
        await bench.provider.session("nothing")
    assert caught.value.reason is Reason.SESSION_NOT_FOUND
    with pytest.raises(InvalidArgument) as refused:
        await bench.submit(PROGRAM, session="nothing")
    assert refused.value.reason is Reason.PROVIDER_REJECTED


async def test_an_instance_that_is_used_up_takes_no_jobs(bench: Bench, control: EmulatorControl) -> None:
    control.change_instance("alpha-open", usage_consumed_seconds=100_000)
    with pytest.raises(ResourceExhausted):
        await bench.submit(PROGRAM)


async def test_an_idle_account_is_well_again_after_an_outage_by_itself(
    new_bench: Callable[..., Bench], control: EmulatorControl
) -> None:
    provider = new_bench(probe_seconds=0.05, status_seconds=0.0, retries=0).provider
    control.fault("GET /backends", "respond", status=503, times=None)
    await provider.start()
    await until(lambda: provider.health().health is Health.NOT_SERVING)
    control.clear_faults()
    await until(lambda: provider.health().health is Health.SERVING)

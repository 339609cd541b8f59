"""The local provider over real worker processes: order, cancellation, limits, crashes, results."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import psutil
import pytest
from qgateway.v1 import result_pb2
from qiskit import QuantumCircuit

from gateway.domain.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Reason,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)
from gateway.domain.job import JobStatus, MeasLevel, MeasReturn, RunOptions
from gateway.domain.provider import Capability, Health, ProviderUpdate
from gateway.providers.local import LocalProvider, LocalSettings
from gateway.workers import WorkerPool, WorkerProgramReader, WorkerSimulators
from tests.support.waiting import until
from tests.unit.local.conftest import PARALLEL_JOBS, Bench
from tests.unit.workers.make import BELL, ghz, qpy_program, text_program

MakeProvider = Callable[..., Awaitable[LocalProvider]]


def endless() -> bytes:
    """Return a program that runs for minutes: noise makes Aer run every shot by itself."""
    return qpy_program(ghz(14))


LONG: dict[str, Any] = {"backend": "local_noisy_27q", "transpile": 0, "shots": 1_000_000}


async def test_a_job_waits_runs_and_leaves_its_result(bench: Bench) -> None:
    submission = await bench.submission(text_program(BELL), header={"a": 1})
    first = await bench.provider.submit(submission)
    assert (first.status, first.provider_status, first.provider_job_id) == (
        JobStatus.QUEUED,
        "queued",
        submission.marker,
    )
    seen = []
    async for update in bench.provider.updates():
        seen.append(update)
        if update.status.is_final:
            break
    # A run as short as this one may be told of by its end alone.
    assert [update.status for update in seen if update.status is not JobStatus.RUNNING] == [JobStatus.DONE]
    assert seen[-1].started_at is not None
    assert seen[-1].charged_seconds is not None
    assert 0 < seen[-1].charged_seconds < 60
    result = result_pb2.JobResult.FromString(await bench.provider.fetch_result(submission.marker))
    assert (result.job, result.backend, result.header["a"]) == (submission.job_name, "local_simulator", 1)
    assert result.experiments[0].shots == 100


async def test_a_result_is_kept_until_it_is_forgotten(bench: Bench) -> None:
    job = await bench.submit(text_program(BELL))
    await bench.ended(job)
    assert await bench.provider.fetch_result(job) == await bench.provider.fetch_result(job)
    await bench.provider.forget(job)
    await bench.provider.forget(job)
    assert await bench.provider.find(job) == ()
    assert await bench.provider.poll((job,)) == ()
    with pytest.raises(NotFound):
        await bench.provider.fetch_result(job)


async def test_a_marker_makes_one_job(bench: Bench) -> None:
    submission = await bench.submission(text_program(BELL))
    await bench.provider.submit(submission)
    assert await bench.provider.find(submission.marker) == (submission.marker,)
    await bench.ended(submission.marker)
    again = await bench.provider.submit(submission)
    assert again.status is JobStatus.DONE
    assert await bench.provider.find("another") == ()


async def test_the_start_of_a_run_that_takes_a_while_is_told(bench: Bench) -> None:
    job = await bench.submit(endless(), **LONG)
    async for update in bench.provider.updates():
        assert (update.provider_job_id, update.status) == (job, JobStatus.RUNNING)
        assert update.started_at is not None
        break


async def test_jobs_run_in_the_order_in_which_they_came(bench: Bench) -> None:
    jobs = [await bench.submit(text_program(BELL)) for _ in range(20)]
    starts: dict[str, datetime] = {}
    async for update in bench.provider.updates():
        if update.status.is_final and update.started_at is not None:
            starts[update.provider_job_id] = update.started_at
        if len(starts) == len(jobs):
            break
    assert sorted(jobs, key=starts.__getitem__) == jobs


async def test_a_waiting_job_knows_its_place(bench: Bench) -> None:
    running = [await bench.submit(endless(), **LONG) for _ in range(PARALLEL_JOBS)]
    waiting = [await bench.submit(text_program(BELL), backend) for backend in ("local_simulator",) * 3]
    places = [await bench.provider.queue_place(job) for job in (*running, *waiting, "unknown")]
    assert [place and place.position for place in places] == [None, None, 0, 1, 2, None]
    assert (await bench.provider.backend_status("local_simulator")).pending_jobs == 3
    assert (await bench.provider.backend_status("local_noisy_27q")).pending_jobs == 0
    assert "3 jobs waiting" in bench.provider.health().message
    await bench.provider.cancel(waiting[0])
    place = await bench.provider.queue_place(waiting[2])
    assert place is not None
    assert place.position == 1
    metrics = await bench.provider.metrics(waiting[1])
    assert metrics.queue is not None
    assert metrics.queue.position == 0
    assert "started_at" not in metrics.values
    assert "started_at" in (await bench.provider.metrics(running[0])).values


async def test_a_full_line_takes_no_more_jobs(new_provider: MakeProvider, reader: WorkerProgramReader) -> None:
    bench = Bench(await new_provider(queue_limit=2, parallel_jobs=1), reader)
    await bench.submit(endless(), **LONG)
    known = await bench.submission(text_program(BELL))
    await bench.provider.submit(known)
    await bench.submit(text_program(BELL))
    with pytest.raises(ResourceExhausted) as caught:
        await bench.submit(text_program(BELL))
    assert caught.value.reason is Reason.QUEUE_FULL
    assert caught.value.retry_after is not None
    assert (await bench.provider.submit(known)).status is JobStatus.QUEUED


async def test_a_waiting_job_is_cancelled_at_once(new_provider: MakeProvider, reader: WorkerProgramReader) -> None:
    bench = Bench(await new_provider(parallel_jobs=1), reader)
    await bench.submit(endless(), **LONG)
    job = await bench.submit(text_program(BELL))
    cancelled = await bench.provider.cancel(job)
    assert cancelled.status is JobStatus.CANCELLED
    assert cancelled.failure is not None
    assert cancelled.failure.reason is Reason.CANCELLED_BY_CALLER
    assert cancelled.charged_seconds is None
    assert await bench.provider.queue_place(job) is None
    assert (await bench.ended(job)).status is JobStatus.CANCELLED
    with pytest.raises(FailedPrecondition) as caught:
        await bench.provider.fetch_result(job)
    assert caught.value.reason is Reason.RESULT_NOT_READY


async def test_cancelling_a_run_ends_its_process_within_a_second(
    reader: WorkerProgramReader, lone_pool: WorkerPool
) -> None:
    bench = Bench(LocalProvider("here", WorkerSimulators(lone_pool)), reader)
    job = await bench.submit(endless(), **LONG)
    worker = await computing(lone_pool)
    cancelled = await bench.provider.cancel(job)
    assert cancelled.status is JobStatus.CANCELLED
    assert cancelled.failure is not None
    assert cancelled.failure.reason is Reason.CANCELLED_BY_CALLER
    await until(lambda: not psutil.pid_exists(worker), within=1.0)
    following = await bench.submit(text_program(BELL))
    assert (await bench.ended(following)).status is JobStatus.DONE
    assert (await bench.state(job)).status is JobStatus.CANCELLED
    await bench.provider.close()


async def test_a_run_that_is_cancelled_before_its_first_step_is_cancelled(bench: Bench) -> None:
    job = await bench.submit(endless(), **LONG)
    assert (await bench.provider.cancel(job)).status is JobStatus.CANCELLED


async def test_cancelling_a_final_job_changes_nothing(bench: Bench) -> None:
    job = await bench.submit(text_program(BELL))
    done = await bench.ended(job)
    assert await bench.provider.cancel(job) == done
    with pytest.raises(NotFound):
        await bench.provider.cancel("unknown")


async def test_a_run_over_its_time_is_an_error_and_the_next_job_runs(
    new_provider: MakeProvider, reader: WorkerProgramReader
) -> None:
    bench = Bench(await new_provider(time_limit=0.5), reader)
    job = await bench.submit(endless(), **LONG)
    ended = await bench.ended(job)
    assert ended.status is JobStatus.ERROR
    assert ended.failure is not None
    assert ended.failure.reason is Reason.TIME_LIMIT_EXCEEDED
    assert "0.5 seconds" in ended.failure.message
    assert (await bench.ended(await bench.submit(text_program(BELL)))).status is JobStatus.DONE


async def test_a_run_over_its_memory_is_an_error(new_provider: MakeProvider, reader: WorkerProgramReader) -> None:
    bench = Bench(await new_provider(memory_limit=2**28), reader)
    circuit = QuantumCircuit(24, 24)
    circuit.rx(0.1, range(24))
    circuit.measure(range(24), range(24))
    with pytest.raises(InvalidArgument, match="has 23"):
        await bench.submit(qpy_program(circuit))
    noisy = QuantumCircuit(24, 24)
    noisy.sx(range(24))
    noisy.measure(range(24), range(24))
    ended = await bench.ended(await bench.submit(qpy_program(noisy), "local_noisy_27q"))
    assert ended.failure is not None
    assert ended.failure.reason is Reason.MEMORY_LIMIT_EXCEEDED


async def test_a_crash_is_an_error_with_a_message_and_the_next_job_runs(
    reader: WorkerProgramReader, lone_pool: WorkerPool
) -> None:
    bench = Bench(LocalProvider("here", WorkerSimulators(lone_pool)), reader)
    job = await bench.submit(endless(), **LONG)
    os.kill(await computing(lone_pool), signal.SIGKILL)
    ended = await bench.ended(job)
    assert ended.status is JobStatus.ERROR
    assert ended.failure is not None
    assert ended.failure.reason is Reason.WORKER_CRASHED
    assert "SIGKILL" in ended.failure.message
    assert (await bench.ended(await bench.submit(text_program(BELL)))).status is JobStatus.DONE
    await bench.provider.close()


async def test_a_slow_reader_of_news_gets_the_end_of_every_job(bench: Bench) -> None:
    jobs = [await bench.submit(text_program(BELL)) for _ in range(30)]
    while not all(update.status.is_final for update in await bench.provider.poll(tuple(jobs))):
        await asyncio.sleep(0.01)
    news: list[ProviderUpdate] = []
    async for update in bench.provider.updates():
        news.append(update)
        if len(news) == len(jobs):
            break
    assert {update.provider_job_id for update in news} == set(jobs)
    assert {update.status for update in news} == {JobStatus.DONE}


async def test_closing_ends_runs_and_news_and_tells_of_no_failure(
    reader: WorkerProgramReader, lone_pool: WorkerPool
) -> None:
    provider = LocalProvider("here", WorkerSimulators(lone_pool), LocalSettings(parallel_jobs=1))
    await provider.start()
    bench = Bench(provider, reader)
    jobs = (await bench.submit(endless(), **LONG), await bench.submit(text_program(BELL)))
    worker = await computing(lone_pool)
    news = asyncio.create_task(collect(provider))
    await provider.close()
    assert all(not update.status.is_final for update in await news)
    assert [update.status for update in await provider.poll(jobs)] == [JobStatus.RUNNING, JobStatus.QUEUED]
    await until(lambda: not psutil.pid_exists(worker), within=1.0)


async def test_backends_carry_account_and_limits(new_provider: MakeProvider) -> None:
    provider = await new_provider(max_shots=500, max_circuits=3)
    backends = await provider.backends()
    assert [backend.name for backend in backends] == ["local_simulator", "local_noisy_5q", "local_noisy_27q"]
    assert {(backend.account, backend.max_shots, backend.max_circuits) for backend in backends} == {("here", 500, 3)}
    assert await provider.backend("local_noisy_5q") is backends[1]
    for ask in (provider.backend, provider.backend_status, lambda name: provider.properties(name, None)):
        with pytest.raises(NotFound) as caught:
            await ask("nowhere")
        assert caught.value.reason is Reason.BACKEND_NOT_FOUND
    assert (provider.kind, provider.account) == ("local", "here")
    assert provider.capabilities == {Capability.PUSH, Capability.VOLATILE, Capability.SESSIONS}
    assert provider.health().health is Health.SERVING
    assert await provider.logs("any") == ""
    with pytest.raises(Unimplemented):
        await provider.usage()


async def test_only_noisy_devices_have_a_calibration(new_provider: MakeProvider) -> None:
    provider = await new_provider()
    assert await provider.properties("local_simulator", None) is None
    now, then = [await provider.properties("local_noisy_5q", at) for at in (None, datetime(2026, 6, 1, tzinfo=UTC))]
    assert now is not None
    assert now is then
    assert len(now.qubits) == 5


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        (RunOptions(shots=0), ["options.shots"]),
        (RunOptions(shots=-1), ["options.shots"]),
        (RunOptions(shots=10**9), ["options.shots"]),
        (RunOptions(meas_level=MeasLevel.KERNELED), ["options.meas_level"]),
        (RunOptions(rep_delay=0.0), ["options.rep_delay"]),
        (RunOptions(init_qubits=False), ["options.init_qubits"]),
        (RunOptions(seed_simulator=2**63), ["options.seed_simulator"]),
        (RunOptions(transpile=4), ["options.transpile"]),
        (
            RunOptions(provider_options={"b": 1, "a": None}),
            ["options.provider_options.a", "options.provider_options.b"],
        ),
        (RunOptions(shots=0, init_qubits=False), ["options.shots", "options.init_qubits"]),
    ],
)
async def test_what_a_simulator_cannot_do_is_refused_by_name(
    new_provider: MakeProvider, options: RunOptions, fields: list[str]
) -> None:
    provider = await new_provider()
    with pytest.raises(InvalidArgument) as caught:
        provider.check_options(await provider.backend("local_simulator"), options)
    assert [violation.field for violation in caught.value.violations] == fields


@pytest.mark.parametrize(
    "options",
    [
        RunOptions(),
        RunOptions(shots=1, memory=True, dynamic=True, seed_simulator=0, transpile=3, header={"a": 1}),
        RunOptions(shots=1_000_000, meas_return=MeasReturn.SINGLE, seed_simulator=2**63 - 1),
    ],
)
async def test_what_a_simulator_can_do_is_not_refused(new_provider: MakeProvider, options: RunOptions) -> None:
    provider = await new_provider()
    provider.check_options(await provider.backend("local_simulator"), options)


async def test_simulators_that_cannot_start_make_the_account_unavailable() -> None:
    pool = WorkerPool(size=1, warm_up="no such task")
    provider = LocalProvider("here", WorkerSimulators(pool))
    try:
        await provider.start()
        with pytest.raises(Unavailable, match="cannot be started"):
            await provider.backends()
        assert provider.health().health is Health.NOT_SERVING
    finally:
        await provider.close()
        await pool.close()


async def computing(pool: WorkerPool) -> int:
    """Wait until the one process of a pool is deep in work, and return its id."""
    await until(pool.pids)
    (worker,) = pool.pids()
    process = psutil.Process(worker)
    before = process.cpu_times().user
    await until(lambda: process.cpu_times().user > before + 0.1)
    return worker


async def collect(provider: LocalProvider) -> list[ProviderUpdate]:
    return [update async for update in provider.updates()]

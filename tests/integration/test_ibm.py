"""The gateway over accounts of IBM Quantum: the real server process, and a real emulator of the service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from qgateway.v1 import job_pb2, job_service_pb2

from tests.emulators.ibm_quantum.process import EmulatorProcess, gateway_environment
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.wire import Wire, connected, details, submission

ASYMMETRIC = """OPENQASM 3.0;
include "stdgates.inc";
qubit[3] q;
bit[3] c;
x q[0];
x q[1];
c = measure q;
"""
"""Its one outcome is 011: its bits cannot be mistaken for each other."""


@pytest.fixture
def wire(ibm_gateway: GatewayProcess) -> Iterator[Wire]:
    with connected(ibm_gateway) as made:
        yield made


def submit(wire: Wire, account: str = "alpha", **fields: Any) -> job_pb2.Job:
    options = job_pb2.RunOptions(shots=50, transpile=job_pb2.TRANSPILE_LEVEL_1)
    return wire.submit(ASYMMETRIC, "ibm_alder", account=f"accounts/{account}", options=options, **fields)


def test_circuits_go_to_both_accounts_and_come_back_with_their_counts(wire: Wire, control: EmulatorControl) -> None:
    jobs = {account: submit(wire, account, tags=["mine"]) for account in ("alpha", "beta")}
    for job in jobs.values():
        done = wire.finish(job.name)
        assert done.status == job_pb2.JOB_STATUS_DONE, done.failure
        assert wire.counts(job.name) == [{"011": 50}]
        assert list(done.tags) == ["mine"]
    upstream = control.jobs()
    assert len({job["instance"] for job in upstream}) == len(upstream) == 2
    assert all("mine" in job["tags"] and job["results_reads"] == 1 for job in upstream)


def test_a_gateway_over_the_emulator_takes_the_settings_that_the_emulator_prints(
    emulator: EmulatorProcess, control: EmulatorControl, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = gateway_environment(emulator.url)
    accounts = printed.pop("GATEWAY_ACCOUNTS")
    for name, key in printed.items():
        monkeypatch.setenv(name, key)
    gateway = GatewayProcess(tmp_path, {"ACCOUNTS": accounts})
    try:
        with connected(gateway.start()) as wire:
            for account in ("alpha", "beta"):
                assert wire.finish(submit(wire, account).name).status == job_pb2.JOB_STATUS_DONE
    finally:
        gateway.stop()


def test_tags_are_changed_upstream_and_the_hidden_ones_stay(wire: Wire, control: EmulatorControl) -> None:
    control.settings(manual=True)
    job = submit(wire, tags=["old"])
    job.tags[:] = ["new"]
    request = job_service_pb2.UpdateJobRequest(job=job, update_mask={"paths": ["tags"]})
    assert list(wire.jobs.UpdateJob(request, metadata=wire.metadata, timeout=20).job.tags) == ["new"]
    (upstream,) = control.jobs()
    assert "new" in upstream["tags"]
    assert "old" not in upstream["tags"]
    assert f"qgw-{job.name.removeprefix('jobs/')}" in upstream["tags"]


def test_a_session_is_opened_filled_and_closed_upstream(wire: Wire, control: EmulatorControl) -> None:
    session = wire.open_session("ibm_alder", account="accounts/alpha", max_seconds=600)
    jobs = [submit(wire, session=session.name) for _ in range(2)]
    for job in jobs:
        assert wire.finish(job.name).status == job_pb2.JOB_STATUS_DONE
    assert not wire.close_session(session.name).accepting_jobs
    (upstream,) = control.sessions()
    assert (upstream["mode"], upstream["max_ttl"], upstream["accepting_jobs"]) == ("dedicated", 600, False)
    assert [job["session_id"] for job in control.jobs()] == [upstream["id"]] * 2
    with pytest.raises(grpc.RpcError) as caught:
        submit(wire, session=session.name)
    assert details(caught.value)["ErrorInfo"].reason == "SESSION_CLOSED"


def test_a_batch_that_is_cancelled_takes_its_jobs_along(wire: Wire, control: EmulatorControl) -> None:
    control.settings(manual=True)
    batch = wire.open_session("ibm_alder", account="accounts/alpha", mode=job_pb2.SCHEDULING_MODE_BATCH)
    job = submit(wire, session=batch.name)
    wire.cancel_session(batch.name)
    assert wire.finish(job.name).status == job_pb2.JOB_STATUS_CANCELLED
    assert [upstream["state"] for upstream in control.jobs()] == ["Cancelled"]


def test_a_job_is_cancelled_upstream(wire: Wire, control: EmulatorControl) -> None:
    control.settings(manual=True)
    job = submit(wire)
    assert job.status == job_pb2.JOB_STATUS_QUEUED
    cancelled = cancel(wire, job)
    assert cancelled.status == job_pb2.JOB_STATUS_CANCELLED
    assert cancelled.failure.reason == "CANCELLED_BY_CALLER"
    assert [upstream["state"] for upstream in control.jobs()] == ["Cancelled"]


def test_a_job_that_is_cancelled_at_the_provider_says_so(wire: Wire, control: EmulatorControl) -> None:
    control.settings(manual=True)
    job = submit(wire)
    control.advance(job.provider_job_id, "Cancelled")
    assert wire.finish(job.name).failure.reason == "CANCELLED_UPSTREAM"


def test_an_unknown_word_of_the_provider_is_kept_and_the_job_goes_on(wire: Wire, control: EmulatorControl) -> None:
    control.settings(manual=True)
    job = submit(wire)
    control.advance(job.provider_job_id, "Running")
    wire.reach(job.name, job_pb2.JOB_STATUS_RUNNING)
    control.change_job(job.provider_job_id, state_word="Thawing")
    wait_until(lambda: wire.get(job.name).provider_status == "Thawing")
    assert wire.get(job.name).status == job_pb2.JOB_STATUS_RUNNING
    control.change_job(job.provider_job_id, state_word=None)
    control.advance(job.provider_job_id, "Completed")
    assert wire.finish(job.name).status == job_pb2.JOB_STATUS_DONE


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_reply_makes_no_second_job(wire: Wire, control: EmulatorControl, when: str) -> None:
    control.fault("POST /jobs", "drop", when=when)
    job = submit(wire)
    assert job.submission.state == job_pb2.Submission.STATE_UNKNOWN
    assert job.pending_reason.kind == job_pb2.PendingReason.KIND_SUBMISSION_UNKNOWN
    done = wire.finish(job.name)
    assert done.status == job_pb2.JOB_STATUS_DONE
    assert [upstream["id"] for upstream in control.jobs()] == [done.provider_job_id]
    assert wire.counts(job.name) == [{"011": 50}]


def test_a_twin_that_turns_up_late_is_cancelled_and_told(wire: Wire, control: EmulatorControl) -> None:
    control.settings(manual=True)
    control.fault("POST /jobs", "drop", act_after_seconds=2.5)
    job = submit(wire)
    accepted = wire.reach(job.name, job_pb2.JOB_STATUS_QUEUED)
    states = wait_until(lambda: {each["id"]: each["state"] for each in control.jobs() if each["state"] == "Cancelled"})
    assert accepted.provider_job_id not in states
    notes = wait_until(lambda: [each for each in events(wire, job) if each.type == job_pb2.JobEvent.TYPE_NOTE])
    assert "a second time" in notes[0].message
    assert len(control.jobs()) == 2


def test_jobs_that_wait_upstream_outlive_a_killed_gateway(
    ibm_gateway: GatewayProcess, control: EmulatorControl
) -> None:
    control.settings(manual=True)
    with connected(ibm_gateway) as wire:
        jobs = [submit(wire, account) for account in ("alpha", "beta", "alpha")]
    ibm_gateway.kill()
    upstream = {job["id"] for job in control.jobs()}
    assert upstream == {job.provider_job_id for job in jobs}
    control.advance(jobs[0].provider_job_id, "Completed")
    ibm_gateway.start()
    for job in jobs[1:]:
        control.advance(job.provider_job_id, "Completed")
    with connected(ibm_gateway) as wire:
        for job in jobs:
            assert wire.finish(job.name).status == job_pb2.JOB_STATUS_DONE
            assert wire.counts(job.name) == [{"011": 50}]
    assert {job["id"] for job in control.jobs()} == upstream


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_gateway_killed_while_it_sends_a_job_makes_no_second_one(
    ibm_gateway: GatewayProcess, control: EmulatorControl, when: str
) -> None:
    control.fault("POST /jobs", "hang", when=when)
    with connected(ibm_gateway) as wire:
        call = wire.jobs.SubmitJob.future(request_of("alpha"), metadata=wire.metadata, timeout=60)
        wait_until(lambda: control.faults()[0]["hits"] and (when == "before" or control.jobs()))
        ibm_gateway.kill()
        call.cancel()
    control.clear_faults()
    ibm_gateway.start()
    with connected(ibm_gateway) as wire:
        (job,) = wire.list()
        done = wire.finish(job.name)
    assert done.status == job_pb2.JOB_STATUS_DONE
    assert [upstream["id"] for upstream in control.jobs()] == [done.provider_job_id]


def test_many_pending_jobs_cost_one_call_per_round_whoever_watches(wire: Wire, control: EmulatorControl) -> None:
    control.settings(manual=True)
    jobs = [submit(wire) for _ in range(12)]
    request = job_service_pb2.WatchJobRequest(name=jobs[0].name)
    watches = [wire.jobs.WatchJob(request, metadata=wire.metadata, timeout=60) for _ in range(20)]
    for watch in watches:
        next(watch)
    control.clear_calls()
    wait_until(lambda: control.counts().get("GET /jobs", 0) >= 4)
    counts = control.counts()
    assert counts.get("GET /jobs/{job_id}", 0) == 0
    assert counts.get("GET /jobs/{job_id}/metrics", 0) <= 1
    assert len(wire.list()) == len(jobs)
    assert control.counts().get("GET /jobs/{job_id}/metrics", 0) <= 1
    for watch in watches:
        watch.cancel()


def test_an_outage_is_told_while_it_lasts_and_costs_nothing(wire: Wire, control: EmulatorControl) -> None:
    control.settings(manual=True)
    job = submit(wire)
    control.fault("*", "respond", status=503, times=None)
    kinds = job_pb2.PendingReason
    wait_until(lambda: wire.get(job.name).pending_reason.kind == kinds.KIND_PROVIDER_UNREACHABLE)
    control.clear_faults()
    wait_until(lambda: wire.get(job.name).pending_reason.kind == kinds.KIND_PROVIDER_QUEUE)
    control.advance(job.provider_job_id, "Completed")
    assert wire.finish(job.name).status == job_pb2.JOB_STATUS_DONE


def test_a_result_that_cannot_be_fetched_is_fetched_later(wire: Wire, control: EmulatorControl) -> None:
    control.fault("GET /jobs/{job_id}/results", "respond", status=503, times=6)
    job = submit(wire)
    assert wire.finish(job.name).status == job_pb2.JOB_STATUS_DONE
    assert wire.counts(job.name) == [{"011": 50}]


def test_a_job_that_the_provider_forgot_fails(wire: Wire, control: EmulatorControl) -> None:
    control.settings(manual=True)
    job = submit(wire)
    control.forget(job.provider_job_id)
    failed = wire.finish(job.name)
    assert (failed.status, failed.failure.reason) == (job_pb2.JOB_STATUS_ERROR, "PROVIDER_ERROR")


def test_jobs_beyond_the_pace_wait_and_say_until_when(
    new_ibm_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    with connected(new_ibm_gateway(submits_per_minute=1).start()) as wire:
        first, second = submit(wire), submit(wire)
        assert first.status == job_pb2.JOB_STATUS_QUEUED
        assert second.pending_reason.kind == job_pb2.PendingReason.KIND_PACED
        wait = second.pending_reason.retry_time.ToDatetime() - second.create_time.ToDatetime()
        assert 50 < wait.total_seconds() < 61
        assert cancel(wire, second).status == job_pb2.JOB_STATUS_CANCELLED
    assert len(control.jobs()) == 1


def test_a_backend_that_is_away_refuses_jobs_at_once(wire: Wire, control: EmulatorControl) -> None:
    submit(wire)
    control.fault("POST /jobs", "respond", status=400, code=3246, message="The backend is offline.")
    with pytest.raises(grpc.RpcError) as caught:
        submit(wire)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION  # type: ignore[attr-defined]
    assert details(caught.value)["ErrorInfo"].reason == "BACKEND_NOT_OPERATIONAL"
    assert len(wire.list()) == 1


@pytest.mark.parametrize("seed", [1, 2])
def test_under_random_faults_every_job_runs_exactly_once(wire: Wire, control: EmulatorControl, seed: int) -> None:
    for number, fault in enumerate(
        (
            {"action": "drop", "when": "before"},
            {"action": "drop", "when": "after"},
            {"action": "respond", "when": "after", "status": 500},
            {"action": "respond", "when": "before", "status": 503},
            {"action": "cut", "bytes": 40},
        )
    ):
        control.fault("POST /jobs", **fault, times=None, probability=0.08, seed=100 * seed + number)
    control.fault("GET *", "respond", status=503, times=None, probability=0.05, seed=seed)
    jobs = [submit(wire) for _ in range(25)]
    done = [wire.finish(job.name, timeout=90) for job in jobs]
    assert {job.status for job in done} == {job_pb2.JOB_STATUS_DONE}, f"seed {seed}"
    assert sorted(job["id"] for job in control.jobs()) == sorted(job.provider_job_id for job in done), f"seed {seed}"


def request_of(account: str) -> job_service_pb2.SubmitJobRequest:
    options = job_pb2.RunOptions(shots=50, transpile=job_pb2.TRANSPILE_LEVEL_1)
    return submission(ASYMMETRIC, "ibm_alder", account=f"accounts/{account}", options=options)


def cancel(wire: Wire, job: job_pb2.Job) -> job_pb2.Job:
    request = job_service_pb2.CancelJobRequest(name=job.name)
    cancelled: job_pb2.Job = wire.jobs.CancelJob(request, metadata=wire.metadata, timeout=20).job
    return cancelled


def events(wire: Wire, job: job_pb2.Job) -> list[job_pb2.JobEvent]:
    request = job_service_pb2.ListJobEventsRequest(name=job.name, page_size=100)
    return list(wire.jobs.ListJobEvents(request, metadata=wire.metadata, timeout=20).events)

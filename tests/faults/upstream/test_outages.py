"""The provider is away for long, forgets what it had, or gives it out only once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from qgateway.v1 import job_pb2, job_service_pb2

from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.faults.upstream.lab import COUNTS, FULL, check_all_done, finish, submit, wait_for_kind
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.wire import Wire, connected

State = job_pb2.Submission.State

OUTAGE_SECONDS = 300


def scaled(scale: float) -> dict[str, float]:
    """Return an account's intervals: the defaults, of which a minute takes so many seconds less."""
    return {
        "shortest_poll": max(0.05, 1 / scale),
        "longest_poll": 60 / scale,
        "settle_seconds": 120 / scale,
        "read_timeout": 30 / scale,
        "submit_timeout": 120 / scale,
    }


SCALE = 60
"""A second stands for a minute, so that an outage fits into a test. `make torture-upstream` makes a real one, too."""


@pytest.mark.parametrize(
    ("scale", "fault"),
    [
        (SCALE, {"action": "respond", "status": 503}),
        (SCALE, {"action": "drop"}),
        (SCALE, {"action": "hang"}),
        *([pytest.param(1, {"action": "hang"}, marks=pytest.mark.timeout(1200))] if FULL else []),
    ],
    ids=lambda value: value["action"] if isinstance(value, dict) else f"1:{value}",
)
def test_a_five_minute_outage_costs_few_calls_and_no_job(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl, scale: float, fault: dict[str, Any]
) -> None:
    outage, patience = OUTAGE_SECONDS / scale, 20 + 240 / scale
    control.settings(manual=True)
    with connected(new_lab_gateway(**scaled(scale)).start()) as wire:
        queued = [submit(wire).name for _ in range(8)]
        begin_outage(control, **fault)
        began = time.monotonic()
        # Until the outage is found out, jobs may be sent into it: what became of them is then in doubt.
        new = [submit(wire)]
        while new[-1].submission.state != State.STATE_PENDING:
            new.append(submit(wire))
        # From then on they are kept, and it is certain that they were not sent.
        kept = [submit(wire) for _ in range(7)]
        assert {job.submission.state for job in kept} == {State.STATE_PENDING}
        states = wait_until(lambda: settled(wire, new), within=patience)
        doubtful = [name for name, state in states.items() if state == State.STATE_UNKNOWN]
        waiting = [*(states.keys() - doubtful), *(job.name for job in kept)]
        assert new[0].name in doubtful
        wait_for_kind(wire, [*queued, *waiting], "PROVIDER_UNREACHABLE", str(fault), patience)
        wait_for_kind(wire, doubtful, "SUBMISSION_UNKNOWN", str(fault), patience)
        found_out = time.monotonic()
        control.clear_calls()
        # The pauses between two tries have grown by its end, and the last of them may be all that is left of it.
        wait_until(
            lambda: time.monotonic() - began > outage and control.counts(), within=outage + patience, every=outage / 100
        )
        calls, rounds = control.counts(), (time.monotonic() - found_out) / (60 / scale)
        # One try a `longest_poll` at the most frequent in the end, whatever waits, and some on the way there.
        assert sum(calls.values()) <= 1.2 * rounds + 6, calls
        told = {name: len(events(wire, name)) for name in (*queued, *waiting, *doubtful)}
        assert max(told.values()) <= 8, f"the same was told again and again: {told}"
        control.clear_faults()
        wait_for_kind(wire, [*queued, *waiting, *doubtful], "PROVIDER_QUEUE", f"{fault} over", patience)
        for job in control.jobs():
            control.advance(job["id"], "Completed")
        check_all_done(wire, control, [wire.get(name) for name in (*queued, *waiting, *doubtful)], f"{fault} over")


def test_a_gateway_that_starts_in_an_outage_takes_its_jobs_up_all_the_same(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    control.settings(manual=True)
    gateway = new_lab_gateway(**scaled(SCALE)).start()
    with connected(gateway) as wire:
        queued = submit(wire)
        begin_outage(control, action="drop")
        doubtful = submit(wire)
    gateway.kill()
    gateway.start()
    with connected(gateway) as wire:
        wait_for_kind(wire, [queued.name], "PROVIDER_UNREACHABLE", "started in an outage")
        wait_for_kind(wire, [doubtful.name], "SUBMISSION_UNKNOWN", "started in an outage")
        control.clear_faults()
        wait_for_kind(wire, [queued.name, doubtful.name], "PROVIDER_QUEUE", "outage over")
        for job in control.jobs():
            control.advance(job["id"], "Completed")
        check_all_done(wire, control, [queued, doubtful], "outage over")


def test_a_job_waits_while_the_provider_does_not_find_its_listed_backend_and_holds_up_no_other(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    gateway = new_lab_gateway(**scaled(SCALE)).start()
    with connected(gateway) as wire:
        control.fault("POST /jobs", "respond", status=429, times=None)
        job, other = submit(wire), submit(wire, backend="ibm_birch")
    gateway.kill()
    control.clear_faults()
    control.fault("GET /api/v1/backends/ibm_alder/configuration", "respond", status=404, times=None)
    gateway.start()  # it remembers no backend any more
    with connected(gateway) as wire:
        wait_for_kind(wire, [job.name], "PROVIDER_UNREACHABLE", "backend not found")
        assert "lists backend" in wire.get(job.name).pending_reason.message
        assert finish(wire, other.name, "backend not found").status == job_pb2.JOB_STATUS_DONE
        control.clear_faults()
        check_all_done(wire, control, [job, other], "backend found")


def test_trouble_with_one_job_does_not_hold_up_the_others(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    control.settings(manual=True)
    with connected(new_lab_gateway().start()) as wire:
        jobs = [submit(wire) for _ in range(4)]
        broken = jobs[0]
        control.fault(f"GET /api/v1/jobs/{broken.provider_job_id}", "respond", status=500, times=None)
        for job in jobs:
            control.advance(job.provider_job_id, "Completed")
        for job in jobs[1:]:
            assert finish(wire, job.name, "one broken").status == job_pb2.JOB_STATUS_DONE
        wait_for_kind(wire, [broken.name], "PROVIDER_UNREACHABLE", "one broken")
        assert submit(wire).submission.state == job_pb2.Submission.STATE_ACCEPTED
        control.clear_faults()
        assert finish(wire, broken.name, "mended").status == job_pb2.JOB_STATUS_DONE


def test_a_result_that_can_be_read_once_is_read_once(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    control.settings(results_once=True)
    gateway = new_lab_gateway().start()
    with connected(gateway) as wire:
        jobs = [submit(wire) for _ in range(5)]
        check_all_done(wire, control, jobs, "results once")
        assert {job["results_reads"] for job in control.jobs()} == {1}
    gateway.kill()
    gateway.start()
    with connected(gateway) as wire:
        check_all_done(wire, control, jobs, "results once, after a restart")
    assert {job["results_reads"] for job in control.jobs()} == {1}


def test_a_result_that_was_lost_on_its_only_way_is_told_as_lost(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    control.settings(results_once=True)
    control.fault("GET /jobs/{job_id}/results", "cut", body_bytes=10)
    with connected(new_lab_gateway().start()) as wire:
        job = finish(wire, submit(wire).name, "results once, and cut")
    assert (job.status, job.failure.reason) == (job_pb2.JOB_STATUS_ERROR, "RESULT_ABSENT")
    assert len(control.jobs()) == 1


def test_a_result_that_was_read_is_not_lost_although_the_provider_forgets_the_job_in_that_moment(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    control.settings(results_once=True)
    gateway = new_lab_gateway().start(FAILPOINTS="result.read=kill")
    with connected(gateway) as wire:
        job = submit(wire)
        gateway.wait_killed()
    (upstream,) = control.jobs()
    control.forget(upstream["id"])
    gateway.start()
    with connected(gateway) as wire:
        done = finish(wire, job.name, "read and forgotten")
        assert done.status == job_pb2.JOB_STATUS_DONE, done.failure
        assert wire.counts(job.name) == [COUNTS]


@pytest.mark.parametrize("state", ["Queued", "Running", "Completed"])
def test_a_job_that_the_provider_forgot_fails_and_is_not_sent_again(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl, state: str
) -> None:
    control.settings(manual=True)
    control.fault("GET /jobs/{job_id}/results", "respond", status=503, times=None)
    with connected(new_lab_gateway().start()) as wire:
        job, other = submit(wire), submit(wire)
        if state != "Queued":
            control.advance(job.provider_job_id, state)
        if state == "Running":
            wire.reach(job.name, job_pb2.JOB_STATUS_RUNNING)
        if state == "Completed":
            wait_for_kind(wire, [job.name], "FETCHING_RESULT", state)
        control.forget(job.provider_job_id)
        failed = finish(wire, job.name, f"forgotten while {state}")
        assert failed.status == job_pb2.JOB_STATUS_ERROR
        assert failed.failure.reason in {"PROVIDER_ERROR", "RESULT_ABSENT"}
        control.clear_faults()
        control.advance(other.provider_job_id, "Completed")
        assert finish(wire, other.name, "the other").status == job_pb2.JOB_STATUS_DONE
    assert len(control.jobs()) == 2


def settled(wire: Wire, jobs: Iterable[job_pb2.Job]) -> dict[str, State.ValueType]:
    """Return, by their names, what became of jobs that were sent; empty while that is not known of all."""
    states = {job.name: wire.get(job.name).submission.state for job in jobs}
    return {} if State.STATE_SENT in states.values() else states


def begin_outage(control: EmulatorControl, **fault: Any) -> None:
    """Let the service be away from the next new job on, which it takes without an answer.

    Nothing goes wrong before: a gateway that has met a failure sends no new job until it knows that the service is back.
    """
    lost = control.fault("POST /jobs", "drop", when="after")
    control.fault("*", **fault, times=None, follows=lost)


def events(wire: Any, name: str) -> list[job_pb2.JobEvent]:
    request = job_service_pb2.ListJobEventsRequest(name=name, page_size=100)
    return list(wire.jobs.ListJobEvents(request, metadata=wire.metadata, timeout=20).events)

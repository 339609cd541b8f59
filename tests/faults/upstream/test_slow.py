"""The provider takes its time: callers are not kept waiting, and what was begun comes to its end."""

from __future__ import annotations

from collections.abc import Callable

import grpc
import pytest
from qgateway.v1 import job_pb2

from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.faults.upstream.lab import check_all_done, finish, submit, wait_for_kind
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.wire import connected, details

IMPATIENT = {"inline_seconds": 0.3}
GRACE_SECONDS = 25
"""Less than what container platforms give by default before they kill: 30 s."""


def test_a_job_that_is_accepted_late_was_answered_before_and_runs_once(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    fault = control.fault("POST /jobs", "delay", times=None)
    with connected(new_lab_gateway(**IMPATIENT).start()) as wire:
        jobs = [submit(wire) for _ in range(3)]
        for job in jobs:
            assert job.submission.state == job_pb2.Submission.STATE_SENT
            assert job.pending_reason.kind == job_pb2.PendingReason.KIND_SUBMITTING
            assert "has not answered yet" in job.pending_reason.message
        control.clear_faults(fault)
        check_all_done(wire, control, jobs, "accepted late")


def test_a_job_that_is_refused_late_ends_in_error_with_the_reason(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    fault = control.fault("POST /jobs", "delay")
    with connected(new_lab_gateway(**IMPATIENT).start()) as wire:
        job = submit(wire)
        assert job.submission.state == job_pb2.Submission.STATE_SENT
        control.change_backend("ibm_alder", state="offline")
        control.clear_faults(fault)
        refused = finish(wire, job.name, "refused late")
        assert refused.status == job_pb2.JOB_STATUS_ERROR
        assert refused.failure.reason == "BACKEND_NOT_OPERATIONAL"
        assert refused.submission.state == job_pb2.Submission.STATE_REFUSED
    assert control.jobs() == []


def test_a_job_whose_answer_never_comes_was_answered_before_and_is_settled_by_a_look(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    control.fault("POST /jobs", "hang")
    with connected(new_lab_gateway(**IMPATIENT, submit_timeout=1).start()) as wire:
        job = submit(wire)
        assert job.submission.state == job_pb2.Submission.STATE_SENT
        check_all_done(wire, control, [job], "no answer")


def test_a_gateway_that_is_killed_while_the_provider_takes_its_time_makes_one_job_of_one(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    fault = control.fault("POST /jobs", "delay", times=None)
    gateway = new_lab_gateway(**IMPATIENT).start()
    with connected(gateway) as wire:
        job = submit(wire)
    gateway.kill()
    control.clear_faults(fault)
    control.fault("GET /jobs", "drop", times=None)
    gateway.start()
    with connected(gateway) as wire:
        wait_for_kind(wire, [job.name], "SUBMISSION_UNKNOWN", "killed meanwhile")
        assert wire.get(job.name).submission.state == job_pb2.Submission.STATE_UNKNOWN
        control.clear_faults()
        check_all_done(wire, control, [job], "killed meanwhile")


def test_a_gateway_that_never_saw_the_backends_says_so_in_time_and_goes_on_asking(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    fault = control.fault("GET /backends*", "hang", times=None)
    with connected(new_lab_gateway(**IMPATIENT, read_timeout=2).start()) as wire:
        with pytest.raises(grpc.RpcError) as caught:
            submit(wire)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE  # type: ignore[attr-defined]
        assert "has not told yet which backends it has" in caught.value.details()  # type: ignore[attr-defined]
        assert details(caught.value)["RetryInfo"].retry_delay.seconds
        control.clear_faults(fault)

        def submitted() -> job_pb2.Job | None:
            try:
                return submit(wire)
            except grpc.RpcError:
                return None

        check_all_done(wire, control, [wait_until(submitted)], "backends told")


@pytest.mark.parametrize("route", ["POST /jobs", "GET /jobs/{job_id}/results", "POST /identity/token"])
def test_a_server_that_is_told_to_stop_while_a_call_hangs_ends_in_time_and_goes_on_at_the_next_start(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl, route: str
) -> None:
    patient = {"submit_timeout": 300, "read_timeout": 300, "inline_seconds": 0.3}
    gateway = new_lab_gateway(**patient).start(SERVER__DRAIN_TIMEOUT="2")
    with connected(gateway) as wire:
        before = submit(wire)
        finish(wire, before.name, "before")
        hanging = control.fault(route, "hang", when="after", times=None)
        if route == "POST /identity/token":
            control.expire_tokens()
        job = submit(wire)
        wait_until(lambda: control.faults()[0]["hits"])
        assert gateway.stop(within=GRACE_SECONDS) == 0
    control.clear_faults(hanging)
    gateway.start()
    with connected(gateway) as wire:
        assert route != "POST /jobs" or wire.get(job.name).submission.attempts == 1
        check_all_done(wire, control, [before, job], f"stopped while {route} hung")


def test_a_result_that_is_on_its_way_when_the_server_is_told_to_stop_is_not_lost(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    control.settings(results_once=True)
    control.fault("GET /jobs/{job_id}/results", "delay", seconds=1, times=None)
    gateway = new_lab_gateway().start()
    with connected(gateway) as wire:
        job = submit(wire)
        wait_until(lambda: control.faults()[0]["hits"])
        assert gateway.stop() == 0
    gateway.start()
    with connected(gateway) as wire:
        check_all_done(wire, control, [job], "stopped while a result came")
    assert [job["results_reads"] for job in control.jobs()] == [1]

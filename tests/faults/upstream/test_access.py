"""The identity service is away, tokens and calls are refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from qgateway.v1 import job_pb2

from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.faults.upstream.lab import FULL, check_all_done, pending_kind, submit, wait_for_kind
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.wire import connected

TOKEN = "POST /identity/token"


def test_an_outage_of_the_identity_service_within_a_tokens_life_is_not_felt(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    control.settings(token_lifetime_seconds=8)
    with connected(new_lab_gateway().start()) as wire:
        jobs = [submit(wire)]
        control.fault(TOKEN, "respond", status=503, times=None)
        wait_until(lambda: control.faults()[0]["hits"])  # the renewal, at half of the token's life
        jobs.append(submit(wire))
        assert jobs[-1].submission.state == job_pb2.Submission.STATE_ACCEPTED
        check_all_done(wire, control, jobs, "identity service down")
        control.clear_faults()
        wait_until(lambda: any(call["status"] == 200 for call in control.calls(TOKEN)[1:]))
        jobs.append(submit(wire))
        check_all_done(wire, control, jobs, "identity service up again")


def test_in_an_outage_of_the_identity_service_beyond_a_tokens_life_jobs_wait_and_say_so(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    control.settings(token_lifetime_seconds=3, manual=True)
    with connected(new_lab_gateway().start()) as wire:
        queued = submit(wire)
        control.fault(TOKEN, "drop", times=None)
        wait_for_kind(wire, [queued.name], "PROVIDER_UNREACHABLE", "token expired")
        waiting = submit(wire)
        assert waiting.submission.state == job_pb2.Submission.STATE_PENDING, "it was certainly not sent"
        assert waiting.pending_reason.kind == job_pb2.PendingReason.KIND_PROVIDER_UNREACHABLE
        assert len(control.jobs()) == 1
        control.settings(token_lifetime_seconds=3600)
        control.clear_faults()
        wait_for_kind(wire, [queued.name, waiting.name], "PROVIDER_QUEUE", "identity service up again")
        for job in control.jobs():
            control.advance(job["id"], "Completed")
        check_all_done(wire, control, [queued, waiting], "identity service up again")


def test_a_token_that_is_refused_in_the_middle_is_replaced(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    with connected(new_lab_gateway().start()) as wire:
        jobs = [submit(wire)]
        for route in ("POST /jobs", "GET /jobs/{job_id}", "GET /jobs/{job_id}/results", "GET /jobs/{job_id}/metrics"):
            control.fault(route, "respond", status=401)
            jobs.append(submit(wire))
            check_all_done(wire, control, jobs, f"401 at {route}")
        control.expire_tokens()
        jobs.append(submit(wire))
        check_all_done(wire, control, jobs, "all tokens expired")


def test_a_job_whose_every_token_is_refused_waits_and_says_so(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl
) -> None:
    control.settings(manual=True)
    with connected(new_lab_gateway().start()) as wire:
        queued = submit(wire)
        fault = control.fault("* /jobs*", "respond", status=401, times=None)
        waiting = submit(wire)
        assert waiting.pending_reason.kind == job_pb2.PendingReason.KIND_CREDENTIALS_REFUSED
        wait_for_kind(wire, [queued.name, waiting.name], "CREDENTIALS_REFUSED", "every token refused")
        control.clear_faults(fault)
        wait_for_kind(wire, [queued.name, waiting.name], "PROVIDER_QUEUE", "tokens taken again", within=60)
        for job in control.jobs():
            control.advance(job["id"], "Completed")
        check_all_done(wire, control, [queued, waiting], "tokens taken again")


@pytest.mark.parametrize("retry_after", ["2", None])
def test_a_provider_that_wants_fewer_calls_is_left_alone_for_as_long_as_it_says(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl, retry_after: str | None
) -> None:
    """Without `Retry-After` that is 15 s."""
    control.settings(manual=True)
    wanted = 15 if retry_after is None else int(retry_after)
    with connected(new_lab_gateway().start()) as wire:
        queued = [submit(wire) for _ in range(3)]
        control.fault("POST /jobs", "respond", status=429, retry_after=retry_after)
        control.fault("GET /jobs", "respond", status=429, retry_after=retry_after)
        waiting = submit(wire)
        reason = waiting.pending_reason
        assert reason.kind == job_pb2.PendingReason.KIND_PACED
        assert waiting.submission.state == job_pb2.Submission.STATE_PENDING
        seconds = (reason.retry_time.ToDatetime() - reason.since_time.ToDatetime()).total_seconds()
        assert seconds == pytest.approx(wanted, abs=1e-3)
        if retry_after is None and not FULL:  # that it is left alone for as long as it said is seen with the other one
            return
        wait_for_kind(wire, [job.name for job in queued], "PACED", "429 at the listing")
        told = len(control.calls("GET /jobs"))
        wait_for_kind(
            wire, [waiting.name, *(job.name for job in queued)], "PROVIDER_QUEUE", "later", within=wanted + 15
        )
        assert sum(call["fault"] is not None for call in control.calls()) == 2
        assert told == 1 + [call["fault"] for call in control.calls("GET /jobs")].index("respond"), "asked on meanwhile"
        for job in control.jobs():
            control.advance(job["id"], "Completed")
        check_all_done(wire, control, [*queued, waiting], f"429 with {retry_after}")
        assert pending_kind(wire, waiting.name) == "UNSPECIFIED"

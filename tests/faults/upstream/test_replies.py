"""Replies that get lost, wholly or in part."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from qgateway.v1 import job_pb2

from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.faults.upstream.lab import FULL, check_all_done, finish, pending_kind, submit
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.wire import Wire, connected

RANGES = 48 if FULL else 6
"""Parts of a reply; it is cut once within each. `make torture-upstream` takes more of them."""

LOST: tuple[dict[str, Any], ...] = (
    {"action": "drop", "when": "after"},
    {"action": "drop", "when": "after", "reset": True},
    {"action": "drop", "when": "before", "reset": True},
    {"action": "hang", "when": "after", "seconds": 2},
    {"action": "respond", "when": "after", "status": 500},
    {"action": "respond", "when": "after", "status": 504},
    {"action": "garble", "body": '{"id": ""}'},
    {"action": "garble", "body": "<html>", "content_type": "text/html"},
)
"""What can happen to the answer to a new job."""


@pytest.fixture
def wire(new_lab_gateway: Callable[..., GatewayProcess]) -> Iterator[Wire]:
    with connected(new_lab_gateway(submit_timeout=1).start()) as made:
        yield made


def test_a_job_whose_acceptance_got_lost_is_found_and_not_sent_again(wire: Wire, control: EmulatorControl) -> None:
    jobs = []
    for fault in LOST:
        control.fault("POST /jobs", **fault)
        job = submit(wire)
        assert job.submission.state == job_pb2.Submission.STATE_UNKNOWN, fault
        assert job.pending_reason.kind == job_pb2.PendingReason.KIND_SUBMISSION_UNKNOWN, fault
        assert job.pending_reason.HasField("retry_time"), fault
        jobs.append(job)
        check_all_done(wire, control, jobs, str(fault))


def test_a_job_that_is_not_listed_at_once_is_waited_for(wire: Wire, control: EmulatorControl) -> None:
    control.settings(listing_delay_seconds=0.8)
    control.fault("POST /jobs", "drop", when="after")
    job = submit(wire)
    assert pending_kind(wire, job.name) == "SUBMISSION_UNKNOWN"
    check_all_done(wire, control, [job], "listing delayed")


def test_an_acceptance_that_is_cut_anywhere_makes_no_second_job(
    wire: Wire, control: EmulatorControl, seed: int
) -> None:
    jobs = [submit(wire)]
    for number, end in enumerate(cuts(control, "POST /jobs", seed)):
        control.fault("POST /jobs", "cut", bytes=end, reset=number % 2 == 1)
        jobs.append(submit(wire))
    check_all_done(wire, control, jobs, f"seed {seed}")


@pytest.mark.parametrize(("route", "jobs"), [("GET /jobs", 3), ("GET /jobs/{job_id}", 2)])
def test_news_that_is_cut_anywhere_is_asked_for_again(
    wire: Wire, control: EmulatorControl, route: str, jobs: int, seed: int
) -> None:
    control.settings(manual=True)
    pending = [submit(wire) for _ in range(jobs)]
    wait_until(lambda: control.calls(route))
    ends = cuts(control, route, seed)
    where = f"{route}, seed {seed}, cuts at {ends}"
    for number, end in enumerate(ends):
        control.fault(route, "cut", bytes=end, reset=number % 2 == 1)
    wait_until(lambda: all(fault["hits"] for fault in control.faults()), within=60)
    for job in pending:
        control.advance(job.provider_job_id, "Completed")
    check_all_done(wire, control, pending, where)


def test_a_result_that_is_cut_anywhere_is_fetched_again(wire: Wire, control: EmulatorControl, seed: int) -> None:
    first = submit(wire)
    finish(wire, first.name, "no fault")
    ends = cuts(control, "GET /jobs/{job_id}/results", seed)
    for number, end in enumerate(ends):
        control.fault("GET /jobs/{job_id}/results", "cut", bytes=end, reset=number % 2 == 1)
    jobs = [first, *(submit(wire) for _ in range(4))]
    check_all_done(wire, control, jobs, f"seed {seed}, cuts at {ends}")
    assert all(fault["hits"] for fault in control.faults()), f"seed {seed}: {control.faults()}"


def test_a_token_that_is_cut_anywhere_is_asked_for_again(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl, seed: int
) -> None:
    with connected(new_lab_gateway().start()) as wire:
        jobs = [submit(wire)]
        ends = random.Random(seed).sample(cuts(control, "POST /identity/token", seed), 3)  # noqa: S311 - repeatable
        for number, end in enumerate(ends):  # each costs a pause that grows from one second
            control.fault("POST /identity/token", "cut", bytes=end, reset=number % 2 == 1)
        control.expire_tokens()
        jobs.append(submit(wire))
        check_all_done(wire, control, jobs, f"seed {seed}, cuts at {ends}")


def cuts(control: EmulatorControl, route: str, seed: int) -> list[int]:
    """Return where to cut the replies of a route: once in each of its ranges, and right before its end."""
    size = max(call["reply_bytes"] for call in control.calls(route))
    choose = random.Random(f"{seed} {route}")  # noqa: S311 - repeatable, not secret
    bounds = [size * part // RANGES for part in range(RANGES + 1)]
    return [
        *(choose.randrange(low, high) for low, high in itertools.pairwise(bounds)),
        size - 1,
    ]

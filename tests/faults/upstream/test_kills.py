"""The gateway is killed at each place between a caller's wish and its result; after a start all is as it was promised."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from qgateway.v1 import job_pb2, job_service_pb2

from gateway.domain.failpoints import FAILPOINTS
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.faults.upstream.lab import check_all_done, finish, submit, try_to_submit, upstream_of
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.wire import Wire, connected

GROUPS = ("store", "submit", "send", "doubt", "cancel", "poll", "result")
"""First parts of the names of the failpoints that lie between a submission and its end."""


@dataclass(frozen=True)
class Way:
    """A way that a job takes, so that it passes some failpoints."""

    failpoints: tuple[str, ...]
    fault: dict[str, Any] = field(default_factory=dict)
    """What the service does wrong with new jobs."""


WAYS = {
    "the usual way": Way(
        (
            *(f"store.{when}_commit=kill@{number}" for when in ("before", "after") for number in (1, 2, 3)),
            "submit.before_store=kill",
            "submit.stored=kill",
            "send.before=kill",
            "send.answered=kill",
            "send.accepted=kill",
            "poll.told=kill",
            "result.before_fetch=kill",
            "result.read=kill",
            "result.fetched=kill",
            "result.stored=kill",
        )
    ),
    "after a wait": Way(
        (
            "send.refused=kill",
            "send.again=kill",
            "send.before=kill@2",
            "send.answered=kill",
            "store.after_commit=kill@3",
        ),
        {"action": "respond", "status": 429, "retry_after": "1"},
    ),
    "accepted in doubt": Way(
        ("send.doubted=kill", "doubt.look=kill", "doubt.found=kill", "doubt.adopted=kill"),
        {"action": "drop", "when": "after"},
    ),
    "not accepted in doubt": Way(
        ("doubt.not_taken=kill", "send.again=kill", "send.answered=kill"), {"action": "drop", "when": "before"}
    ),
}
TWINS = ("doubt.twin=kill", "doubt.twin_cancelled=kill")
CANCELLATIONS = ("cancel.stored=kill", "cancel.answered=kill")


def test_every_failpoint_of_a_jobs_life_is_tried() -> None:
    tried = {entry.partition("=")[0] for way in WAYS.values() for entry in way.failpoints}
    tried |= {entry.partition("=")[0] for entry in (*TWINS, *CANCELLATIONS)}
    assert tried == {name for name in FAILPOINTS if name.partition(".")[0] in GROUPS}


@pytest.mark.parametrize(
    ("way", "failpoint"), [(name, entry) for name, way in WAYS.items() for entry in way.failpoints]
)
def test_a_gateway_that_is_killed_on_the_way_makes_one_job_of_one(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl, way: str, failpoint: str
) -> None:
    control.settings(results_once=True)
    gateway = new_lab_gateway().start(FAILPOINTS=failpoint)
    if fault := WAYS[way].fault:
        control.fault("POST /jobs", **fault)
    before = try_to_submit(gateway, "a-request")
    gateway.wait_killed()
    gateway.start()
    with connected(gateway) as wire:
        # As clients do: a call without an answer is made once more, with the same request id.
        job = submit(wire, "a-request")
        assert before is None or before.name == job.name
        check_all_done(wire, control, [job], f"{way}, {failpoint}")
        assert len(wire.list()) == 1


@pytest.mark.parametrize("failpoint", TWINS)
def test_a_gateway_that_is_killed_over_a_twin_still_cancels_and_tells_it(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl, failpoint: str
) -> None:
    control.settings(manual=True)
    control.fault("POST /jobs", "drop", act_after_seconds=2.5)
    gateway = new_lab_gateway().start(FAILPOINTS=failpoint)
    with connected(gateway) as wire:
        job = submit(wire)
        gateway.wait_killed()
    gateway.start()
    with connected(gateway) as wire:
        wait_until(lambda: sorted(each["state"] for each in upstream_of(control, job)) == ["Cancelled", "Queued"])
        assert notes(wire, job), f"{failpoint}: nothing was told of the twin"
        control.advance(wire.get(job.name).provider_job_id, "Completed")
        assert finish(wire, job.name, failpoint).status == job_pb2.JOB_STATUS_DONE
    assert sorted(each["state"] for each in control.jobs()) == ["Cancelled", "Completed"]


@pytest.mark.parametrize("failpoint", CANCELLATIONS)
def test_a_gateway_that_is_killed_over_a_cancellation_cancels_all_the_same(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl, failpoint: str
) -> None:
    control.settings(manual=True)
    gateway = new_lab_gateway().start(FAILPOINTS=failpoint)
    with connected(gateway) as wire:
        job = submit(wire)
        with suppress(grpc.RpcError):
            wire.jobs.CancelJob(job_service_pb2.CancelJobRequest(name=job.name), metadata=wire.metadata, timeout=20)
        gateway.wait_killed()
    gateway.start()
    with connected(gateway) as wire:
        cancelled = finish(wire, job.name, failpoint)
    assert (cancelled.status, cancelled.failure.reason) == (job_pb2.JOB_STATUS_CANCELLED, "CANCELLED_BY_CALLER")
    assert [each["state"] for each in control.jobs()] == ["Cancelled"]


def notes(wire: Wire, job: job_pb2.Job) -> list[str]:
    request = job_service_pb2.ListJobEventsRequest(name=job.name, page_size=100)
    events = wire.jobs.ListJobEvents(request, metadata=wire.metadata, timeout=10).events
    return [each.message for each in events if each.type == job_pb2.JobEvent.TYPE_NOTE]

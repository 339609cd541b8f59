"""The gateway is killed at each place between a caller's wish and its result; after a start all is as it was promised."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from qgateway.v1 import job_pb2, job_service_pb2

from gateway.domain.failpoints import FAILPOINTS
from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.faults.upstream.lab import FULL, check_all_done, finish, submit, try_to_submit, upstream_of
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until
from tests.support.wire import Wire, connected

GROUPS = ("store", "submit", "send", "doubt", "cancel", "poll", "result")
"""First parts of the names of the failpoints that lie between a submission and its end."""


@dataclass(frozen=True)
class Way:
    """A way that a job takes, so that it passes some failpoints."""

    failpoints: tuple[str, ...]
    again: tuple[str, ...] = field(kw_only=True, default=())
    """Those that are tried elsewhere, too: a kill here is tried in a full run only."""
    fault: dict[str, Any] = field(default_factory=dict)
    """What the service does wrong with new jobs."""


WAYS = {
    "the usual way": Way(
        (
            "store.before_commit=kill@2",
            "store.after_commit=kill@2",
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
        ),
        again=tuple(f"store.{when}_commit=kill@{number}" for when in ("before", "after") for number in (1, 3)),
    ),
    "after a wait": Way(
        ("send.refused=kill", "send.again=kill"),
        again=("send.before=kill@2", "send.answered=kill", "store.after_commit=kill@3"),
        fault={"action": "respond", "status": 429, "retry_after": "1"},
    ),
    "accepted in doubt": Way(
        ("send.doubted=kill", "doubt.look=kill", "doubt.found=kill", "doubt.adopted=kill"),
        fault={"action": "drop", "when": "after"},
    ),
    "not accepted in doubt": Way(
        ("doubt.not_taken=kill",),
        again=("send.again=kill", "send.answered=kill"),
        fault={"action": "drop", "when": "before"},
    ),
}
TWINS = ("doubt.twin=kill", "doubt.twin_cancelled=kill")
CANCELLATIONS = ("cancel.stored=kill", "cancel.answered=kill")


def test_every_failpoint_of_a_jobs_life_is_tried() -> None:
    tried = {entry.partition("=")[0] for way in WAYS.values() for entry in way.failpoints}
    tried |= {entry.partition("=")[0] for entry in (*TWINS, *CANCELLATIONS)}
    assert tried == {name for name in FAILPOINTS if name.partition(".")[0] in GROUPS}


def pairs() -> list[tuple[str, tuple[str, ...]]]:
    """Return what is tried at a time: a way, and one or two failpoints on it."""
    tried = {name: (*way.failpoints, *(way.again if FULL else ())) for name, way in WAYS.items()}
    return [(name, tried[name][begin : begin + 2]) for name in WAYS for begin in range(0, len(tried[name]), 2)]


@pytest.mark.parametrize(
    ("way", "failpoints"), pairs(), ids=lambda part: part if isinstance(part, str) else "+".join(part)
)
def test_a_gateway_that_is_killed_on_the_way_makes_one_job_of_one(
    new_lab_gateway: Callable[..., GatewayProcess], emulator: EmulatorProcess, way: str, failpoints: tuple[str, ...]
) -> None:
    """Two gateways at a time, each over an instance of its own: most of the time they start."""
    emulator.control.settings(results_once=True)

    def kill(number: int) -> None:
        crn = emulator.crn("alpha", number)
        gateway, where = new_lab_gateway(f"lane-{number}", crn=crn), f"{way}, {failpoints[number]}"
        if fault := WAYS[way].fault:
            emulator.control.fault("POST /jobs", **fault, instance=crn)
        gateway.start(FAILPOINTS=failpoints[number])
        before = try_to_submit(gateway, "a-request")
        gateway.wait_killed()
        gateway.start()
        with connected(gateway) as wire:
            # As clients do: a call without an answer is made once more, with the same request id.
            job = submit(wire, "a-request")
            assert before is None or before.name == job.name, where
            check_all_done(wire, emulator.control, [job], where, instance=crn)
            assert len(wire.list()) == 1, where

    with ThreadPoolExecutor(len(failpoints)) as lanes:
        for _ in lanes.map(kill, range(len(failpoints))):
            pass


@pytest.mark.parametrize("failpoint", TWINS)
def test_a_gateway_that_is_killed_over_a_twin_still_cancels_and_tells_it(
    new_lab_gateway: Callable[..., GatewayProcess], control: EmulatorControl, failpoint: str
) -> None:
    control.settings(manual=True)
    control.fault("POST /jobs", "drop", act_after_seconds=1.8)  # when the job has been sent again
    gateway = new_lab_gateway(settle_seconds=0.6).start(FAILPOINTS=failpoint)
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

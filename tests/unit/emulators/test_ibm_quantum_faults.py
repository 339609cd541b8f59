"""Faults: what goes wrong, when, how often, and what the service did all the same."""

from __future__ import annotations

import socket
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
import requests

from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.waiting import wait_until
from tests.unit.emulators.caller import Caller


@pytest.mark.parametrize("status", [401, 403, 404, 409, 429, 500, 503])
def test_a_call_is_answered_with_an_error_once(caller: Caller, control: EmulatorControl, status: int) -> None:
    control.fault("GET /backends", "respond", status=status, retry_after="7")
    reply = caller.call("GET", "/backends")
    assert (reply.status_code, reply.headers["Retry-After"]) == (status, "7")
    assert caller.call("GET", "/backends").status_code == 200
    assert control.faults()[0]["hits"] == 1


def test_errors_have_every_shape(caller: Caller, control: EmulatorControl) -> None:
    bodies = {}
    for shape in ("errors", "error", "text", "empty"):
        control.fault("GET /backends", "respond", shape=shape, code=1012, message="Too many.")
        bodies[shape] = caller.call("GET", "/backends").text
    assert '"errors":[{"code":1012,"message":"Too many."' in bodies["errors"]
    assert bodies["error"] == '{"error":{"code":1012,"message":"Too many."}}'
    assert bodies["text"] == "Too many.\n"
    assert bodies["empty"] == ""


def test_iam_can_be_refused_and_down(caller: Caller, control: EmulatorControl) -> None:
    control.fault("POST /identity/token", "respond", status=400)
    assert set(caller.exchange().json()) == {"errorCode", "errorMessage", "context"}
    control.fault("POST /identity/token", "drop", times=None)
    for _ in range(3):
        with pytest.raises(requests.ConnectionError):
            caller.exchange()
    control.clear_faults()
    assert caller.exchange().status_code == 200


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(("when", "jobs"), [("before", 0), ("after", 1)])
def test_a_connection_is_dropped_before_or_after_acting(
    caller: Caller, control: EmulatorControl, when: str, jobs: int, *, reset: bool
) -> None:
    caller.log_in()
    control.fault("POST /jobs", "drop", when=when, reset=reset)
    with pytest.raises(requests.ConnectionError):
        caller.submit()
    assert len(control.jobs()) == jobs
    (call,) = control.calls("POST /jobs")
    assert (call["fault"], call["acted"], call["status"]) == ("drop", when == "after", None)


def test_a_request_may_take_effect_long_after_its_connection_was_lost(caller: Caller, control: EmulatorControl) -> None:
    caller.log_in()
    control.fault("POST /jobs", "drop", act_after_seconds=1)
    with pytest.raises(requests.ConnectionError):
        caller.submit(tags=["late"])
    assert control.jobs() == []
    (job,) = wait_until(control.jobs)
    assert job["tags"] == ["late"]


def test_a_call_hangs_before_acting_until_the_caller_gives_up(caller: Caller, control: EmulatorControl) -> None:
    caller.log_in()
    control.fault("POST /jobs", "hang", times=2)
    for _ in range(2):
        with pytest.raises(requests.ReadTimeout):
            caller.submit(timeout=0.2)
    control.clear_faults()
    caller.new_job()
    assert len(control.jobs()) == 1


def test_a_call_hangs_after_acting_until_the_caller_gives_up(caller: Caller, control: EmulatorControl) -> None:
    caller.log_in()
    control.fault("POST /jobs", "hang", when="after")
    with pytest.raises(requests.ReadTimeout):
        caller.submit(timeout=0.2)
    wait_until(control.jobs)


def test_a_hanging_call_ends_without_an_answer(caller: Caller, control: EmulatorControl) -> None:
    caller.log_in()
    control.fault("GET /backends", "hang", seconds=0.05)
    with pytest.raises(requests.ConnectionError):
        caller.call("GET", "/backends")


def test_a_reply_is_cut_at_every_byte(caller: Caller, control: EmulatorControl) -> None:
    caller.log_in()
    whole = _raw_get(caller, "/backends/ibm_alder/status")
    (call,) = control.calls("GET /backends/{backend}/status")
    body = whole.partition(b"\r\n\r\n")[2]
    assert whole.endswith(b'"backend_version":"1.0.0"}')
    for size in range(call["reply_bytes"]):
        control.fault("GET /backends/*/status", "cut", bytes=size)
        assert len(_raw_get(caller, "/backends/ibm_alder/status")) == size
        control.clear_faults()
    for size in (0, 1, -1):
        control.fault("GET /backends/*/status", "cut", body_bytes=size)
        head, _, rest = _raw_get(caller, "/backends/ibm_alder/status").partition(b"\r\n\r\n")
        assert f"Content-Length: {len(body)}".encode() in head
        assert rest == (body[:size] if size else b"")


def test_a_cut_reply_was_acted_upon(caller: Caller, control: EmulatorControl) -> None:
    caller.log_in()
    control.fault("POST /jobs", "cut", body_bytes=5)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        caller.submit()
    assert len(control.jobs()) == 1


def _raw_get(caller: Caller, path: str) -> bytes:
    """Return all bytes that come back, whether they make a reply or not."""
    address = urlsplit(caller.base + path)
    headers = {**caller.session.headers, "Host": address.netloc, "Connection": "close"}
    lines = [f"GET {address.path} HTTP/1.1", *(f"{name}: {_text(value)}" for name, value in headers.items())]
    received = b""
    with socket.create_connection((address.hostname, address.port or 80), timeout=10) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        while part := connection.recv(65536):
            received += part
    return received


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()


def test_a_reply_is_replaced_by_something_else(caller: Caller, control: EmulatorControl) -> None:
    caller.log_in()
    for body in ('{"id":', "[]", "<html>", ""):
        control.fault("POST /jobs", "garble", body=body)
        reply = caller.submit()
        assert (reply.status_code, reply.text) == (200, body)
    assert len(control.jobs()) == 4


def test_a_fault_skips_calls_and_hits_as_often_as_it_should(caller: Caller, control: EmulatorControl) -> None:
    control.fault("GET /backends", "respond", status=503, skip=2, times=2)
    statuses = [caller.call("GET", "/backends").status_code for _ in range(6)]
    assert statuses == [200, 200, 503, 503, 200, 200]


def test_a_fault_that_follows_another_begins_with_that_one(caller: Caller, control: EmulatorControl) -> None:
    first = control.fault("GET /jobs", "respond", status=500)
    control.fault("*", "respond", status=503, times=None, follows=first)
    routes = ("/backends", "/jobs", "/jobs", "/backends")
    assert [caller.call("GET", route).status_code for route in routes] == [200, 500, 503, 503]


def test_random_faults_are_repeatable_by_their_seed(caller: Caller, control: EmulatorControl) -> None:
    def statuses(seed: int) -> list[int]:
        control.fault("GET /backends", "respond", status=503, probability=0.5, seed=seed, times=None)
        found = [caller.call("GET", "/backends").status_code for _ in range(40)]
        control.clear_faults()
        return found

    assert statuses(1) == statuses(1) != statuses(2)
    assert 5 < statuses(1).count(503) < 35


def test_a_fault_may_hit_one_instance_or_one_job_only(
    new_caller: Callable[..., Caller], control: EmulatorControl
) -> None:
    one, other = new_caller("alpha"), new_caller("beta")
    control.fault("*", "respond", status=500, instance="beta-paygo", times=None)
    assert one.call("GET", "/backends").status_code == 200
    assert other.call("GET", "/backends").status_code == 500
    first, second = one.new_job(), one.new_job()
    control.fault(f"GET /api/v1/jobs/{first}", "respond", status=404)
    assert one.call("GET", f"/jobs/{second}").status_code == 200
    assert one.call("GET", f"/jobs/{first}").status_code == 404


def test_a_delayed_call_is_answered_in_the_end(caller: Caller, control: EmulatorControl) -> None:
    caller.log_in()
    control.fault("GET /backends", "delay", seconds=0.3)
    with pytest.raises(requests.ReadTimeout):
        caller.call("GET", "/backends", timeout=0.1)
    control.settings(latency_seconds=0.3)
    with pytest.raises(requests.ReadTimeout):
        caller.call("GET", "/backends", timeout=0.1)
    assert caller.call("GET", "/backends").status_code == 200


def test_a_listing_is_shuffled(caller: Caller, control: EmulatorControl) -> None:
    made = [caller.new_job() for _ in range(20)]
    control.fault("GET /jobs", "reorder", seed=3)
    shuffled = [job["id"] for job in caller.get("/jobs")["jobs"]]
    assert sorted(shuffled) == sorted(made)
    assert shuffled not in (made, made[::-1])
    assert [job["id"] for job in caller.get("/jobs")["jobs"]] == made[::-1]


def test_calls_are_counted_by_route(caller: Caller, control: EmulatorControl) -> None:
    job = caller.new_job()
    caller.ended(job)
    control.clear_calls()
    caller.get("/jobs", tags=["a"])
    caller.get(f"/jobs/{job}")
    caller.get(f"/jobs/{job}")
    caller.call("GET", "/backends", headers={"Authorization": "apikey x"})
    assert control.counts() == {"GET /jobs": 1, "GET /jobs/{job_id}": 2, "GET /backends": 1}
    assert control.calls("GET /jobs")[0]["query"] == "tags=a"
    assert [call["scheme"] for call in control.calls()] == ["Bearer", "Bearer", "Bearer", "apikey"]


def test_a_fault_that_makes_no_sense_is_refused(control: EmulatorControl) -> None:
    with pytest.raises(AssertionError, match="cut needs"):
        control.fault("*", "cut")
    with pytest.raises(AssertionError, match="action"):
        control.fault("*", "explode")

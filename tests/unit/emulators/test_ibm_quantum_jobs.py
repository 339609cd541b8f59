"""Backends, jobs and sessions over bare HTTP."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.waiting import wait_until
from tests.unit.emulators.caller import BELL, Caller, sampler_params


def test_backends_tell_of_themselves(caller: Caller, control: EmulatorControl) -> None:
    devices = {device["name"]: device for device in caller.get("/backends")["devices"]}
    assert {name: device["status"]["name"] for name, device in devices.items()} == {
        "ibm_alder": "online",
        "ibm_birch": "online",
        "ibm_cedar": "offline",
    }
    with_mocks = caller.get("/backends", include_mocks="True")["devices"]
    assert {device["name"]: device.get("class") for device in with_mocks}["mock_alder"] == "mock"
    configuration = caller.get("/backends/ibm_birch/configuration")
    assert configuration["n_qubits"] == devices["ibm_birch"]["qubits"] == 7
    assert caller.get("/backends/ibm_cedar/status")["state"] is False
    control.change_backend("ibm_alder", state="paused", extra_queue=5)
    assert caller.get("/backends/ibm_alder/status") == {
        "state": True,
        "status": "internal",
        "message": "under maintenance",
        "length_queue": 5,
        "backend_version": "1.0.0",
    }


def test_calibrations_change_by_the_day_and_are_kept(caller: Caller) -> None:
    path = "/backends/ibm_alder/properties"
    today = caller.get(path)
    spring = caller.get(path, updated_before="2026-03-01T12:00:00+00:00")
    assert spring["last_update_date"] == "2026-03-01T04:00:00Z"
    assert spring == caller.get(path, updated_before="2026-03-02T03:59:00+00:00")
    assert spring["qubits"] != today["qubits"]
    assert caller.get(path, updated_before="2020-01-01T00:00:00+00:00") == {}


def test_backends_that_do_not_exist_or_work_are_refused(caller: Caller) -> None:
    unknown, offline = caller.submit(backend="ibm_nowhere"), caller.submit(backend="ibm_cedar")
    assert (unknown.status_code, unknown.json()["errors"][0]["code"]) == (404, 1007)
    assert (offline.status_code, offline.json()["errors"][0]["code"]) == (400, 1004)


def test_bodies_that_are_not_valid_are_refused(caller: Caller) -> None:
    wrong: dict[str, Any] = {"program_id": "none", "params": [], "tags": "one", "cost": "much", "start_session": True}
    for name, value in wrong.items():
        reply = caller.submit(**{name: value})
        assert (reply.status_code, reply.json()["errors"][0]["code"]) == (400, 1208)
    assert caller.call("POST", "/jobs", data="{").status_code == 400


def test_a_job_goes_its_way_by_the_clock(caller: Caller, control: EmulatorControl) -> None:
    control.settings(queue_seconds=1, run_seconds=0.5, queue_positions=True)
    job = caller.new_job(tags=["one"])
    metrics = caller.get(f"/jobs/{job}/metrics")
    assert metrics["position_in_queue"] == 0
    assert metrics["estimated_start_time"] is not None
    seen = [caller.state(job)["status"]]
    while seen[-1] in ("Queued", "Running"):
        status = caller.state(job)["status"]
        if status != seen[-1]:
            seen.append(status)
    assert seen == ["Queued", "Running", "Completed"]
    stamps = caller.get(f"/jobs/{job}/metrics")["timestamps"]
    assert stamps["created"] < stamps["running"] < stamps["finished"]


def test_a_job_goes_its_way_by_hand(caller: Caller, control: EmulatorControl) -> None:
    control.settings(manual=True)
    job, other = caller.new_job(), caller.new_job()
    assert caller.state(job) == {"status": "Queued"}
    control.advance(job, "Running")
    assert caller.state(job) == {"status": "Running"}
    control.advance(job, "Completed")
    assert caller.state(job) == {"status": "Completed"}
    control.advance(other, "Failed", reason="It broke.", code=9999, solution="Try again.")
    assert caller.state(other) == {
        "status": "Failed",
        "reason": "It broke.",
        "reason_code": 9999,
        "reason_solution": "Try again.",
    }
    assert caller.call("GET", f"/jobs/{other}/results").status_code == 200


def test_a_job_may_use_words_that_nobody_knows(caller: Caller, control: EmulatorControl) -> None:
    control.settings(manual=True)
    job = caller.new_job()
    control.change_job(job, state_word="Pondering")
    assert caller.state(job) == {"status": "Pondering"}
    control.change_job(job, state_word=None)
    assert caller.state(job) == {"status": "Queued"}


def test_a_job_that_runs_too_long_is_cancelled_with_its_code(caller: Caller, control: EmulatorControl) -> None:
    control.settings(run_seconds=60)
    job = caller.new_job(cost=1)
    assert caller.ended(job)["reason_code"] == 1305
    assert caller.get(f"/jobs/{job}")["status"] == "Cancelled - Ran too long"


def test_params_come_back_as_they_were_sent(caller: Caller) -> None:
    job = caller.new_job()
    assert caller.get(f"/jobs/{job}")["params"] == sampler_params()
    assert "params" not in caller.get(f"/jobs/{job}", exclude_params="true")


def test_pages_deliver_as_many_jobs_as_they_count(caller: Caller) -> None:
    made = [caller.new_job() for _ in range(25)]
    found: list[str] = []
    while True:
        page = caller.get("/jobs", limit=10, offset=len(found))
        assert page["count"] == 25
        assert page["offset"] == len(found)
        if not page["jobs"]:
            break
        found += [job["id"] for job in page["jobs"]]
    assert found == made[::-1]
    assert [job["id"] for job in caller.get("/jobs", sort="ASC", limit=3)["jobs"]] == made[:3]


def test_filters_of_a_listing_all_have_to_match(caller: Caller, control: EmulatorControl) -> None:
    control.settings(manual=True)
    first = caller.new_job(tags=["a", "b"])
    between = datetime.now(UTC)
    second = caller.new_job(tags=["a"], backend="ibm_birch")
    control.advance(second, "Completed")

    def listed(**query: object) -> list[str]:
        return [job["id"] for job in caller.get("/jobs", **query)["jobs"]]

    assert listed(tags=["a", "b"]) == [first]
    assert listed(tags=["a"]) == [second, first]
    assert listed(pending="true") == [first]
    assert listed(pending="false") == [second]
    assert listed(backend="ibm_birch", program="sampler") == [second]
    assert listed(program="executor") == []
    assert listed(created_after=between.isoformat()) == [second]
    assert listed(created_before=between.isoformat()) == [first]
    assert listed(created_after=(between + timedelta(days=1)).isoformat()) == []
    assert listed(session_id="unknown") == []


def test_jobs_of_other_instances_do_not_exist(new_caller: Callable[..., Caller]) -> None:
    one, other = new_caller("alpha", 0), new_caller("alpha", 1)
    job = one.new_job()
    assert other.get("/jobs")["count"] == 0
    reply = other.call("GET", f"/jobs/{job}")
    assert (reply.status_code, reply.json()["errors"][0]["code"]) == (404, 1291)


def test_tags_cancel_and_delete_answer_without_a_body(caller: Caller, control: EmulatorControl) -> None:
    control.settings(manual=True)
    job = caller.new_job(tags=["old"])
    assert caller.call("PUT", f"/jobs/{job}/tags", json={"tags": ["new", "new"]}).status_code == 204
    assert caller.get(f"/jobs/{job}")["tags"] == ["new"]
    assert caller.call("DELETE", f"/jobs/{job}").status_code == 400
    assert caller.call("POST", f"/jobs/{job}/cancel").status_code == 204
    assert caller.call("POST", f"/jobs/{job}/cancel").status_code == 409
    assert caller.call("GET", f"/jobs/{job}/results").status_code == 204
    assert caller.call("DELETE", f"/jobs/{job}").status_code == 204
    assert caller.call("GET", f"/jobs/{job}").status_code == 404
    assert [entry["deleted"] for entry in control.jobs()] == [True]


def test_logs_are_there_when_the_job_is_final(caller: Caller, control: EmulatorControl) -> None:
    control.settings(manual=True)
    job = caller.new_job()
    assert caller.call("GET", f"/jobs/{job}/logs").status_code == 404
    control.advance(job, "Failed", reason="It broke.")
    assert "It broke." in caller.call("GET", f"/jobs/{job}/logs").text


def test_results_of_a_private_job_are_read_once(caller: Caller, control: EmulatorControl) -> None:
    job = caller.new_job(private=True)
    assert "params" not in caller.get(f"/jobs/{job}")
    assert caller.result(job)["results"]
    assert caller.call("GET", f"/jobs/{job}/results").status_code == 404
    control.settings(results_once=True)
    other = caller.new_job()
    caller.result(other)
    assert caller.call("GET", f"/jobs/{other}/results").status_code == 404


def test_a_forgotten_job_is_gone_but_not_for_the_control_route(caller: Caller, control: EmulatorControl) -> None:
    job = caller.new_job(tags=["mine"])
    control.forget(job)
    assert caller.call("GET", f"/jobs/{job}").status_code == 404
    assert caller.get("/jobs")["count"] == 0
    assert [(entry["id"], entry["tags"], entry["forgotten"]) for entry in control.jobs()] == [(job, ["mine"], True)]


def test_a_listing_may_lag_behind(caller: Caller, control: EmulatorControl) -> None:
    control.settings(listing_delay_seconds=600)
    job = caller.new_job()
    assert caller.get("/jobs")["count"] == 0
    assert caller.get(f"/jobs/{job}")["id"] == job
    control.settings(listing_delay_seconds=0)
    assert caller.get("/jobs")["count"] == 1


def test_limits_of_an_instance_are_kept(caller: Caller, control: EmulatorControl) -> None:
    control.settings(manual=True, max_pending_jobs=1)
    caller.new_job()
    assert caller.submit().json()["errors"][0]["code"] == 3458
    control.settings(max_pending_jobs=None, submits_per_minute=2)
    reply = caller.submit()
    assert (reply.status_code, reply.json()["errors"][0]["code"]) == (429, 1202)
    assert 0 < int(reply.headers["Retry-After"]) <= 60
    control.settings(submits_per_minute=None)
    control.change_instance("alpha-open", usage_consumed_seconds=100_000)
    assert caller.get("/instances/usage")["usage_limit_reached"] is True
    reply = caller.submit()
    assert (reply.status_code, reply.json()["errors"][0]["code"]) == (409, 4317)


def test_usage_grows_with_the_time_of_completed_jobs(caller: Caller) -> None:
    caller.ended(caller.new_job(params=sampler_params(shots=20_000)))
    wait_until(lambda: caller.get("/instances/usage")["usage_consumed_seconds"] == 5)


def test_a_session_goes_its_way(caller: Caller, control: EmulatorControl) -> None:
    control.settings(manual=True)
    body = {"mode": "dedicated", "backend": "ibm_alder", "max_ttl": 600}
    session = caller.call("POST", "/sessions", json=body).json()
    path = f"/sessions/{session['id']}"
    assert (session["state"], session["accepting_jobs"], session["max_ttl"]) == ("open", True, 600)
    job = caller.new_job(session_id=session["id"])
    control.advance(job, "Running")
    assert caller.get(path)["state"] == "active"
    assert caller.call("PATCH", path, json={"accepting_jobs": False}).status_code == 204
    assert caller.submit(session_id=session["id"]).status_code == 400
    control.advance(job, "Completed")
    closed = caller.get(path)
    assert closed["state"] == "closed"
    assert [entry["status"] for entry in closed["timestamps"]] == ["open", "active", "closed"]
    assert [entry["id"] for entry in caller.get("/jobs", session_id=session["id"])["jobs"]] == [job]


def test_cancelling_a_batch_cancels_its_jobs(caller: Caller, control: EmulatorControl) -> None:
    control.settings(manual=True)
    batch = caller.call("POST", "/sessions", json={"mode": "batch", "backend": "ibm_alder"}).json()["id"]
    inside, outside = caller.new_job(session_id=batch), caller.new_job()
    assert caller.call("DELETE", f"/sessions/{batch}/close").status_code == 204
    assert caller.state(inside)["status"] == "Cancelled"
    assert caller.state(outside)["status"] == "Queued"
    assert caller.get(f"/sessions/{batch}")["state"] == "closed"
    assert caller.call("GET", "/sessions/unknown").status_code == 404


def test_a_session_ends_when_its_time_is_over(caller: Caller, control: EmulatorControl) -> None:
    control.settings(manual=True)
    session = caller.call("POST", "/sessions", json={"backend": "ibm_alder", "max_ttl": 1}).json()["id"]
    control.advance(caller.new_job(session_id=session), "Running")
    wait_until(lambda: caller.get(f"/sessions/{session}")["state"] == "closed")
    assert caller.submit(session_id=session).status_code == 400


def test_the_same_seed_gives_the_same_ids_and_results(caller: Caller, control: EmulatorControl) -> None:
    def run() -> tuple[str, object]:
        control.reset()
        job = caller.new_job()
        return job, caller.result(job)

    assert run() == run()
    control.settings(seed=2)
    job = caller.new_job(params=sampler_params(BELL, 8))
    assert caller.result(job)["results"][0]["data"] != run()[1]["results"][0]["data"]  # type: ignore[index]

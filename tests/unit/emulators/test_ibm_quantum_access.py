"""Keys, tokens, instances and versions."""

from __future__ import annotations

from collections.abc import Callable

import jwt
import pytest

from tests.emulators.ibm_quantum.process import EmulatorProcess
from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.waiting import wait_until
from tests.unit.emulators.caller import Caller


def test_a_key_is_exchanged_for_a_token_with_a_lifetime(caller: Caller) -> None:
    reply = caller.exchange()
    document = reply.json()
    claims = jwt.decode(document["access_token"], options={"verify_signature": False})
    assert reply.status_code == 200
    assert claims["exp"] - claims["iat"] == document["expires_in"] == 3600
    assert document["expiration"] == claims["exp"]
    assert document["token_type"] == "Bearer"


def test_an_unknown_key_is_refused_in_the_shape_of_iam(caller: Caller) -> None:
    reply = caller.exchange("no such key")
    assert reply.status_code == 400
    assert reply.json()["errorCode"] == "BXNIM0415E"
    assert "context" in reply.json()


@pytest.mark.parametrize("scheme", ["", "apikey ", "Bearer not-a-token "])
def test_no_token_and_the_bare_key_are_refused(caller: Caller, scheme: str) -> None:
    reply = caller.call("GET", "/backends", headers={"Authorization": f"{scheme}{caller.api_key}"})
    assert reply.status_code == 401
    assert reply.json()["errors"][0]["code"] == 1201


def test_an_instance_of_another_account_is_refused(caller: Caller, emulator: EmulatorProcess) -> None:
    reply = caller.call("GET", "/backends", headers={"Service-CRN": emulator.crn("beta")})
    assert reply.status_code == 403
    reply = caller.call("GET", "/backends", headers={"Service-CRN": None})
    assert reply.status_code == 400


def test_a_rotated_key_is_refused_while_its_tokens_live_on(caller: Caller, control: EmulatorControl) -> None:
    caller.log_in()
    control.change_keys("alpha", add=["the new key of alpha"], remove=[caller.api_key])
    assert caller.exchange().status_code == 400
    assert caller.exchange("the new key of alpha").status_code == 200
    assert caller.call("GET", "/backends").status_code == 200


def test_tokens_can_be_made_invalid_and_end_by_themselves(caller: Caller, control: EmulatorControl) -> None:
    caller.log_in()
    control.expire_tokens()
    assert caller.call("GET", "/backends").status_code == 401
    control.settings(token_lifetime_seconds=1)
    caller.log_in()
    assert caller.call("GET", "/backends").status_code == 200
    wait_until(lambda: caller.call("GET", "/backends").status_code == 401)


def test_a_search_finds_the_instances_of_the_account_and_their_plans(caller: Caller) -> None:
    caller.log_in()
    items = caller.session.post(f"{caller.iam}/v3/resources/search", json={"query": "x"}, timeout=10).json()["items"]
    assert [item["name"] for item in items] == ["alpha-open", "alpha-premium"]
    assert all(item["doc"]["extensions"] for item in items)
    plans = [
        caller.session.get(f"{caller.iam}/api/v1/{item['service_plan_unique_id']}", timeout=10).json() for item in items
    ]
    assert [plan["metadata"]["pricing"]["type"] for plan in plans] == ["free", "subscription"]


def test_the_api_is_found_under_both_prefixes(new_caller: Callable[..., Caller], control: EmulatorControl) -> None:
    for prefix in ("/api/v1", "/experimental/api/v1"):
        assert len(new_caller(prefix=prefix).get("/backends")["devices"]) == 3
    assert control.counts()["GET /backends"] == 2


def test_the_shape_of_replies_follows_the_version(caller: Caller) -> None:
    oldest = caller.call("GET", "/backends", headers={"IBM-API-Version": None}).json()
    assert oldest == {"devices": ["ibm_alder", "ibm_birch", "ibm_cedar"]}
    assert caller.call("GET", "/backends", headers={"IBM-API-Version": "1999-01-01"}).status_code == 400
    job = caller.new_job()
    caller.ended(job)
    older = caller.call("GET", f"/jobs/{job}/metrics", headers={"IBM-API-Version": "2026-02-15"}).json()
    assert older["bss"]["seconds"] == older["usage"]["quantum_seconds"] == 1
    newest = caller.get(f"/jobs/{job}/metrics")
    assert newest["usage"] == {"qpu_charge_time_seconds": 1, "status": "complete"}
    assert "bss" not in newest


def test_unknown_routes_are_answered_in_the_shape_of_errors(caller: Caller) -> None:
    reply = caller.call("GET", "/nowhere/at/all")
    assert reply.status_code == 404
    assert set(reply.json()) == {"trace", "errors"}

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.access.api_keys import KEY_PREFIX, ApiKey, KeyRing, hash_api_key, keyed_hash, new_api_key
from gateway.domain.access import Role, Scope
from gateway.domain.api_key import ApiKeyRecord
from gateway.domain.errors import Reason, Unauthenticated
from gateway.domain.job import utc_now


def _authenticator(key: str) -> KeyRing:
    return KeyRing([ApiKey("ci", "physics", Role.SUBMITTER, hash_api_key(key))], b"k")


def test_a_key_finds_its_caller() -> None:
    key = new_api_key()
    caller = _authenticator(key).authenticate(f"Bearer {key}")
    assert (caller.name, caller.tenant, caller.role) == ("ci", "physics", Role.SUBMITTER)


def test_new_keys_are_long_distinct_and_recognisable() -> None:
    keys = {new_api_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith(KEY_PREFIX) and len(key) >= len(KEY_PREFIX) + 43 for key in keys)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc", "abc"])
def test_a_call_without_a_key_is_told_how_to_send_one(header: str | None) -> None:
    with pytest.raises(Unauthenticated, match="authorization: Bearer") as caught:
        _authenticator(new_api_key()).authenticate(header)
    assert caught.value.reason is Reason.API_KEY_MISSING


def test_a_wrong_key_is_refused_and_not_repeated() -> None:
    wrong = new_api_key()
    with pytest.raises(Unauthenticated) as caught:
        _authenticator(new_api_key()).authenticate(f"Bearer {wrong}")
    assert caught.value.reason is Reason.API_KEY_INVALID
    assert wrong not in str(caught.value)


def _record(key: str, **fields: Any) -> ApiKeyRecord:
    key_id = key.split("_")[1]
    record = ApiKeyRecord(key_id, "ci", "physics", Role.SUBMITTER, keyed_hash(key, b"k"), utc_now())
    return replace(record, **fields)


def test_a_key_of_the_database_finds_its_caller_and_its_use_is_noted() -> None:
    key, ring = new_api_key(), KeyRing([], b"k")
    assert ring.is_empty
    ring.put(_record(key))
    caller = ring.authenticate(f"bearer {key}")
    assert (caller.name, caller.tenant, caller.credential) == ("ci", "physics", f"apiKeys/{key.split('_')[1]}")
    assert abs(ring.take_last_uses()[key.split("_")[1]] - utc_now()) < timedelta(seconds=10)
    assert not ring.take_last_uses()
    assert not ring.is_empty


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"revoked_at": utc_now()}, Reason.API_KEY_REVOKED),
        ({"expires_at": utc_now() - timedelta(seconds=1)}, Reason.API_KEY_EXPIRED),
    ],
)
def test_a_key_whose_time_is_over_says_so_to_its_bearer_only(fields: dict[str, Any], reason: Reason) -> None:
    key, ring = new_api_key(), KeyRing([], b"k")
    ring.put(_record(key, **fields))
    with pytest.raises(Unauthenticated) as caught:
        ring.authenticate(f"Bearer {key}")
    assert caught.value.reason is reason
    guessed = new_api_key(key.split("_")[1])
    with pytest.raises(Unauthenticated) as caught:
        ring.authenticate(f"Bearer {guessed}")
    assert caught.value.reason is Reason.API_KEY_INVALID
    assert not ring.take_last_uses()


def test_a_hash_is_worth_nothing_with_another_key() -> None:
    key, ring = new_api_key(), KeyRing([], b"another")
    ring.put(_record(key))
    with pytest.raises(Unauthenticated):
        ring.authenticate(f"Bearer {key}")


def test_each_role_grants_what_the_ones_before_it_grant() -> None:
    assert {scope for scope in Scope if Role.OPERATOR.grants(scope)} == set(Scope)
    assert {scope for scope in Scope if Role.SUBMITTER.grants(scope)} == set(Scope) - {Scope.ADMIN}
    assert {scope for scope in Scope if Role.VIEWER.grants(scope)} == {s for s in Scope if s.endswith(".read")}
    assert Role.least_for(Scope.JOBS_WRITE) is Role.SUBMITTER

import pytest

from gateway.access.api_keys import KEY_PREFIX, ApiKey, ApiKeyAuthenticator, hash_api_key, new_api_key
from gateway.domain.access import Role, Scope
from gateway.domain.errors import Reason, Unauthenticated


def _authenticator(key: str) -> ApiKeyAuthenticator:
    return ApiKeyAuthenticator([ApiKey("ci", "physics", Role.SUBMITTER, hash_api_key(key))])


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


def test_each_role_grants_what_the_ones_before_it_grant() -> None:
    assert {scope for scope in Scope if Role.OPERATOR.grants(scope)} == set(Scope)
    assert {scope for scope in Scope if Role.SUBMITTER.grants(scope)} == set(Scope) - {Scope.ADMIN}
    assert {scope for scope in Scope if Role.VIEWER.grants(scope)} == {s for s in Scope if s.endswith(".read")}
    assert Role.least_for(Scope.JOBS_WRITE) is Role.SUBMITTER

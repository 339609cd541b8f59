"""What a policy file may say, and what becomes of one that is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.access.call_rate import CallRate
from gateway.access.policy import PolicyError, PolicyFile, read_policy
from gateway.access.rates import Rates
from gateway.domain.access import Caller, Role
from gateway.domain.errors import Reason, ResourceExhausted
from gateway.domain.policy import Limits

ACCOUNTS = ("alpha", "beta", "local")

RESEARCH = """
[default]
accounts = ["local"]
limits.pending_jobs = 5

[tenants.research]
accounts = ["alpha", "b*"]
backends = ["fake_*", "simulator"]
limits.pending_jobs = "unlimited"
limits.qpu_seconds_per_day = 0.5
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policy.toml"


def write(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink()
    else:
        path.write_text(text)


class TestReading:
    def test_a_tenant_has_what_its_table_says_and_else_what_the_default_says(self, path: Path) -> None:
        path.write_text(RESEARCH)
        policy = read_policy(path, ACCOUNTS)
        research, other = policy.of("research"), policy.of("other")
        assert research.limits == replace(Limits(), pending_jobs=None, qpu_seconds_per_day=0.5)
        assert other.limits == replace(Limits(), pending_jobs=5)
        assert [name for name in ACCOUNTS if research.allows_account(name)] == ["alpha", "beta"]
        assert [name for name in ACCOUNTS if other.allows_account(name)] == ["local"]
        assert research.allows_backend("fake_one")
        assert not research.allows_backend("real_one")
        assert other.allows_backend("real_one")

    def test_an_empty_file_leaves_everybody_within_the_default_limits(self, path: Path) -> None:
        path.write_text("")
        assert read_policy(path, ACCOUNTS).of("anybody").limits == Limits()
        assert None not in vars_of(Limits())

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("[tenants.a.limits]\npending_jobs = -1", "tenants.a.limits.pending_jobs: "),
            ("[tenants.a.limits]\npending_jobs = 1.5", "tenants.a.limits.pending_jobs: "),
            (
                "[tenants.a.limits]\npending_jobs = true",
                "tenants.a.limits.pending_jobs: must be a number, or 'unlimited'",
            ),
            ("[default.limits]\nqpu_seconds_per_day = 'lots'", "default.limits.qpu_seconds_per_day: must be a number"),
            ("[default.limits]\nqpu_seconds_per_day = inf", "default.limits.qpu_seconds_per_day: "),
            ("[default.limits]\nsubmissions_per_minute = 0", "default.limits.submissions_per_minute: "),
            ("[default.limits]\njobs = 1", "default.limits.jobs: there is no such entry"),
            ("[tenant.a]", "tenant: there is no such entry"),
            ("[tenants.A]", "tenants.A: a tenant's name"),
            ("[tenants.a]\naccounts = ['alpha', 'alhpa']", "tenants.a.accounts.1: there is no account 'alhpa'"),
            ("[tenants.a]\naccounts = 'alpha'", "tenants.a.accounts: "),
            ("[tenants.a]\nbackends = ['']", "tenants.a.backends.0: "),
            ("[tenants.a", "is not TOML"),
            ("[tenants.a]\nbackends = ['\udcff']", "is not text in UTF-8"),
        ],
    )
    def test_a_wrong_entry_is_named_by_its_path(self, path: Path, text: str, told: str) -> None:
        path.write_bytes(text.encode(errors="surrogateescape"))
        with pytest.raises(PolicyError) as wrong:
            read_policy(path, ACCOUNTS)
        assert told in str(wrong.value)
        assert str(path) in str(wrong.value)

    def test_all_wrong_entries_are_named_at_once(self, path: Path) -> None:
        path.write_text("[default.limits]\njobs = 1\npending_jobs = 'x'")
        with pytest.raises(
            PolicyError, match=r"default.limits.jobs: (.|\n)*default.limits.pending_jobs: |pending(.|\n)*jobs: "
        ):
            read_policy(path, ACCOUNTS)

    def test_a_missing_file_is_named(self, path: Path) -> None:
        with pytest.raises(PolicyError, match="No such file"):
            read_policy(path, ACCOUNTS)


class TestReloading:
    async def test_a_new_content_is_in_use_after_the_next_look(self, path: Path) -> None:
        write(path, "")
        policy = PolicyFile(path, ACCOUNTS)
        write(path, RESEARCH)
        await policy.look()
        assert policy.of("other").limits.pending_jobs == 5

    async def test_a_wrong_content_leaves_the_policy_in_use_and_says_so(self, path: Path) -> None:
        write(path, RESEARCH)
        policy = PolicyFile(path, ACCOUNTS)
        for broken in ("[default.limits]\njobs = 1", None):
            write(path, broken)
            await policy.look()
            assert policy.of("other").limits.pending_jobs == 5
            assert str(path) in policy.trouble
        write(path, RESEARCH)
        await policy.look()
        assert policy.trouble == ""


class TestRates:
    def test_a_name_has_its_burst_at_once_and_then_its_rate(self) -> None:
        now = 100.0
        rates = Rates(lambda: now)
        assert [rates.take("a", 2.0, 3.0) for _ in range(3)] == [0.0, 0.0, 0.0]
        assert rates.take("a", 2.0, 3.0) == pytest.approx(0.5)
        assert rates.take("b", 2.0, 3.0) == 0.0
        now += 0.5
        assert rates.take("a", 2.0, 3.0) == 0.0
        assert rates.take("a", 2.0, 3.0) > 0.0
        now += 60.0
        assert [rates.take("a", 2.0, 3.0) for _ in range(3)] == [0.0, 0.0, 0.0]
        assert rates.take("a", 2.0, 3.0) > 0.0

    def test_names_at_rest_are_forgotten(self) -> None:
        now = 100.0
        rates = Rates(lambda: now)
        for number in range(10_000):
            rates.take(str(number), 10.0, 1.0)
            now += 1.0
        assert len(rates._full_at) < 2000

    def test_a_caller_who_calls_too_often_is_told_when_to_call_again(self) -> None:
        rate = CallRate(0.1)
        ada, bob = (
            Caller("ada", "t", Role.VIEWER, credential="apiKeys/1"),
            Caller("bob", "t", Role.VIEWER, credential="apiKeys/2"),
        )
        rate.count(ada)
        with pytest.raises(ResourceExhausted) as refused:
            rate.count(ada)
        rate.count(bob)
        assert refused.value.reason is Reason.CALL_RATE_EXCEEDED
        assert refused.value.retry_after == pytest.approx(10.0, abs=1.0)


def vars_of(limits: Limits) -> list[object]:
    return [getattr(limits, name) for name in limits.__slots__]

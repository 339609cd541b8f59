"""Accounts with their API keys and instances."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

_USAGE_LIMIT = 100_000
"""In seconds: more than any test uses by chance."""

_NAMESPACE = uuid.UUID("5b0f7a34-5a53-4d0e-9d0c-2f0c9f1c7a11")


@dataclass
class Instance:
    """A service instance: what a CRN names."""

    crn: str
    name: str
    plan: str
    pricing: str
    tags: list[str] = field(default_factory=list)
    usage_limit_seconds: int | None = None
    usage_consumed_seconds: float = 0.0

    @property
    def plan_id(self) -> str:
        """Id of the plan in the catalogue."""
        return str(uuid.uuid5(_NAMESPACE, f"plan {self.plan}"))

    @property
    def limit_reached(self) -> bool:
        """Whether no more usage is left."""
        return self.usage_limit_seconds is not None and self.usage_consumed_seconds >= self.usage_limit_seconds


@dataclass
class Account:
    """A customer: API keys, and the instances that they open."""

    name: str
    api_keys: set[str]
    instances: list[Instance]

    @property
    def user_id(self) -> str:
        """The IAM id of the account's one user."""
        return f"IBMid-{_digest(self.name)[:10].upper()}"

    @property
    def account_id(self) -> str:
        """The account's id, 32 hexadecimal digits."""
        return _digest(self.name)


class Accounts:
    """All accounts.

    Args:
        at_start: Makes the accounts to begin with.
    """

    def __init__(self, at_start: Callable[[], Iterable[Account]]) -> None:
        self._at_start = at_start
        self._accounts: dict[str, Account] = {}
        self.reset()

    def __iter__(self) -> Iterator[Account]:
        return iter(self._accounts.values())

    def __getitem__(self, name: str) -> Account:
        return self._accounts[name]

    def __contains__(self, name: str) -> bool:
        return name in self._accounts

    def reset(self) -> None:
        """Go back to the accounts at the start."""
        self._accounts = {account.name: account for account in self._at_start()}

    def of_key(self, api_key: str) -> Account | None:
        """Return the account that an API key opens."""
        return next((account for account in self._accounts.values() if api_key in account.api_keys), None)

    def instances(self) -> list[Instance]:
        """Return the instances of all accounts."""
        return [instance for account in self._accounts.values() for instance in account.instances]

    def plan(self, plan_id: str) -> Instance | None:
        """Return an instance of the plan that has this id."""
        return next((instance for instance in self.instances() if instance.plan_id == plan_id), None)


def first_key(account: str) -> str:
    """Return the API key that an account has at the start."""
    return f"emulated-{account}-{_digest(f'key of {account}')}"


def token_mark() -> str:
    """Return what every token holds that IAM issues: whoever looks for it finds them all."""
    return _digest("mark of all tokens")


def default_accounts() -> list[Account]:
    """Return two accounts: `alpha` with an open and a premium instance, and `beta` with a pay-as-you-go one."""
    return [
        Account(
            "alpha",
            {first_key("alpha")},
            [
                Instance(crn("alpha", "us-east", "open"), "alpha-open", "Open", "free", ["demo"], _USAGE_LIMIT),
                Instance(crn("alpha", "eu-de", "premium"), "alpha-premium", "Premium", "subscription"),
            ],
        ),
        Account(
            "beta",
            {first_key("beta")},
            [Instance(crn("beta", "us-east", "paygo"), "beta-paygo", "Pay-as-you-go", "paygo")],
        ),
    ]


def crn(account: str, region: str, name: str) -> str:
    """Return the CRN of an account's instance."""
    guid = uuid.uuid5(_NAMESPACE, f"{account} {name}")
    return f"crn:v1:bluemix:public:quantum-computing:{region}:a/{_digest(account)}:{guid}::"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]

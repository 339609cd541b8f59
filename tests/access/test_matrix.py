"""Every RPC by every kind of caller, against a live server.

The outcomes stand in `table.txt`. With a new RPC, or after a change that is meant: give the RPC a request in `requests.py`, run
`pytest tests/access --renew-access-table`, and read the difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest

from gateway.rpc.method_rules import rules_of
from tests.access.requests import REQUESTS, Request, Subject
from tests.access.world import CALLERS, METHODS, OTHER_OPERATOR, REFUSED, ROLES, Outcome, World, absent
from tests.support.gateway_process import GatewayProcess

_TABLE = Path(__file__).with_name("table.txt")
_HEAD = (
    "What comes of each call, by who makes it, about things that belong to the tenant of the last three columns.\n\n"
)
_OWNED = {
    Subject.FINISHED_JOB: "JOB_NOT_FOUND",
    Subject.UNFINISHED_JOB: "JOB_NOT_FOUND",
    Subject.ADOPTABLE_JOB: "JOB_NOT_FOUND",
    Subject.SESSION: "SESSION_NOT_FOUND",
    Subject.PROGRAM: "PROGRAM_NOT_UPLOADED",
}
"""What belongs to a tenant, and what others hear of it. Listings by session are simply empty."""
_LISTINGS = {"JobService/ListJobs", "JobService/WatchJobs"}

Table = dict[Request, dict[str, Outcome]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    gateway = GatewayProcess(tmp_path_factory.mktemp("access"), {"SERVER__HEARTBEAT_INTERVAL": "0.5"}).start()
    with grpc.insecure_channel(gateway.target) as channel:
        yield World(gateway, channel)
    assert gateway.stop() == 0


@pytest.fixture(scope="module")
def table(world: World) -> Table:
    """What comes of all calls."""
    return {request: {caller: _try(world, request, caller) for caller in CALLERS} for request in REQUESTS}


def _try(world: World, request: Request, caller: str) -> Outcome:
    rules = rules_of(METHODS[request.method])
    # Whoever may change the thing gets one that nobody has changed yet.
    fresh = not rules.read_only and caller in ROLES and ROLES[caller].grants(rules.scope)
    return world.call(request, caller, world.subject(request.subject, fresh=fresh))


def test_every_rpc_has_a_row() -> None:
    assert {request.method for request in REQUESTS} == set(METHODS)
    assert len({request.title for request in REQUESTS}) == len(REQUESTS)


def test_the_outcomes_are_those_of_the_table(table: Table, request: pytest.FixtureRequest) -> None:
    rows = [("", *CALLERS)]
    rows += [(row.title, *(outcomes[caller].reason for caller in CALLERS)) for row, outcomes in table.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    text = _HEAD + "\n".join(lines) + "\n"
    if request.config.getoption("--renew-access-table"):
        _TABLE.write_text(text)
    assert text == _TABLE.read_text()


def test_callers_without_valid_credentials_get_nowhere(table: Table) -> None:
    for request, outcomes in table.items():
        for caller, reason in REFUSED.items():
            assert (outcomes[caller].code, outcomes[caller].reason) == ("UNAUTHENTICATED", reason), request.title


def test_callers_get_what_their_roles_grant_and_nothing_else(table: Table) -> None:
    for request, outcomes in table.items():
        scope = rules_of(METHODS[request.method]).scope
        for caller, role in ROLES.items():
            is_denied = outcomes[caller].code == "PERMISSION_DENIED"
            assert is_denied is not role.grants(scope), (request.title, caller)
            assert outcomes[caller].code != "UNAUTHENTICATED", (request.title, caller)


def test_what_belongs_to_another_tenant_is_not_there_in_any_way_that_a_caller_could_tell(
    world: World,
) -> None:
    owned = [request for request in REQUESTS if request.subject in _OWNED]
    assert len(owned) >= 20
    for request in owned:
        for caller in ("other tenant", OTHER_OPERATOR):
            about = partial(_answer, world, request, caller)
            name = world.subject(request.subject, fresh=False)
            there, not_there = about(name), about(absent(name))
            if METHODS[request.method].server_streaming and there[0] == "OK":
                there, not_there = there[:3], not_there[:3]  # heartbeats bear the time
            assert there == not_there, (request.title, caller)
            expected = "OK" if request.method in _LISTINGS else _OWNED[request.subject]
            assert there[0] == expected, (request.title, caller)
            if rules_of(METHODS[request.method]).read_only and expected != "OK":
                assert world.call(request, "viewer", name).reason != expected, request.title


def _answer(world: World, request: Request, caller: str, name: str) -> tuple[str, str, str, bytes]:
    return world.call(request, caller, name).about(name)

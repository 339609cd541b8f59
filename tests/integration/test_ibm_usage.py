"""What operators see of an account's usage at the provider."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from qgateway.v1 import account_pb2, account_service_pb2, admin_service_pb2, admin_service_pb2_grpc

from tests.emulators.ibm_quantum.remote import EmulatorControl
from tests.support.gateway_process import GatewayProcess
from tests.support.wire import Wire, connected

ROUTE = "GET /instances/usage"


@pytest.fixture
def operator(ibm_gateway: GatewayProcess) -> Iterator[Wire]:
    with connected(ibm_gateway) as made:
        yield made


def accounts(wire: Wire) -> dict[str, account_pb2.Account]:
    """Return the caller's accounts by name."""
    request = account_service_pb2.ListAccountsRequest()
    listed = wire.accounts.ListAccounts(request, metadata=wire.metadata, timeout=20).accounts
    return {account.name: account for account in listed}


def submitter(operator: Wire) -> Wire:
    """Return the calls of a submitter of another tenant."""
    key = admin_service_pb2.ApiKey(display_name="s", tenant="physics", roles=[admin_service_pb2.ROLE_SUBMITTER])
    admin = admin_service_pb2_grpc.AdminServiceStub(operator.channel)
    request = admin_service_pb2.CreateApiKeyRequest(api_key=key)
    return Wire(operator.channel, admin.CreateApiKey(request, metadata=operator.metadata, timeout=20).secret)


def test_operators_alone_see_what_the_provider_says_and_it_is_asked_once(
    operator: Wire, control: EmulatorControl
) -> None:
    control.change_instance("alpha-open", usage_consumed_seconds=1234.5)
    assert not any(account.HasField("provider_usage") for account in accounts(submitter(operator)).values())
    assert ROUTE not in control.counts()
    seen = [accounts(operator)["accounts/alpha"].provider_usage for _ in range(2)]
    assert seen[0] == seen[1]
    told = seen[0]
    assert told.qpu_time.ToTimedelta().total_seconds() == 1234.5
    assert told.qpu_time_limit.ToTimedelta().total_seconds() == 100_000
    assert not told.limit_reached
    assert (told.end_time.ToDatetime() - told.start_time.ToDatetime()).days == 28
    assert control.counts()[ROUTE] == 2  # once for each account


def test_accounts_are_listed_while_the_provider_does_not_tell_what_they_have_used(
    operator: Wire, control: EmulatorControl
) -> None:
    control.fault(ROUTE, "respond", status=500, times=None)
    listed = accounts(operator)
    assert set(listed) == {"accounts/alpha", "accounts/beta"}
    assert not any(account.HasField("provider_usage") for account in listed.values())
    assert ROUTE in control.counts()

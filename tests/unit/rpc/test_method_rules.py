from __future__ import annotations

import importlib
import json
import pkgutil
from pathlib import Path

import pytest
import qgateway.v1
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor

from gateway.domain.access import Scope
from gateway.rpc.method_rules import RULES, methods, path_of, rules_of

ROOT = Path(__file__).parents[3]


def contract() -> list[FileDescriptor]:
    """Every file of the contract, also one that the server does not know of."""
    names = [module.name for module in pkgutil.iter_modules(qgateway.v1.__path__) if module.name.endswith("_pb2")]
    return [importlib.import_module(f"qgateway.v1.{name}").DESCRIPTOR for name in names]


def all_methods() -> list[MethodDescriptor]:
    services = [service for file in contract() for service in file.services_by_name.values()]
    return [method for service in services for method in service.methods]


@pytest.mark.parametrize("method", all_methods(), ids=lambda method: method.full_name)
def test_every_method_of_the_contract_says_what_it_needs(method: MethodDescriptor) -> None:
    rules = rules_of(method)
    streams = method.client_streaming or method.server_streaming
    assert (rules.default_deadline is None) == streams, "a unary call needs a default deadline, a stream has none"
    assert rules.read_only == rules.scope.endswith(".read") or rules.scope is Scope.ADMIN
    assert rules.audited or rules.read_only, "what changes something is recorded"
    if rules.read_only:
        assert rules.repeatable


def test_the_server_knows_the_rules_of_every_method() -> None:
    assert set(RULES) == {path_of(method) for method in all_methods()}
    assert len(list(methods())) == len(RULES) > 30


@pytest.mark.parametrize("folder", ["clients/python/src/qgateway/v1", "clients/go/qgatewayv1"])
def test_the_service_config_repeats_what_may_be_repeated_and_nothing_else(folder: str) -> None:
    config = json.loads((ROOT / folder / "service_config.json").read_text())
    repeated = {
        f"/{name['service']}/{name['method']}"
        for entry in config["methodConfig"]
        if "retryPolicy" in entry
        for name in entry["name"]
    }
    unary = {path_of(method) for method in methods() if not (method.client_streaming or method.server_streaming)}
    assert repeated == {path for path, rules in RULES.items() if rules.repeatable} & unary
    deadlines = {
        f"/{name['service']}/{name['method']}": float(entry["timeout"].removesuffix("s"))
        for entry in config["methodConfig"]
        if "timeout" in entry
        for name in entry["name"]
    }
    assert deadlines == {path: rules.default_deadline for path, rules in RULES.items() if rules.default_deadline}


def test_the_reference_of_the_api_has_every_method() -> None:
    reference = (ROOT / "docs" / "api.md").read_text()
    for method in all_methods():
        assert f"| `{method.name}`: " in reference

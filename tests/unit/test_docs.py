"""The pages of the documentation: examples can be used as they are, links lead somewhere, and what is named exists."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from qgateway.cli.app import app as client_app
from qgateway.v1 import (
    account_service_pb2,
    admin_service_pb2,
    backend_service_pb2,
    job_service_pb2,
    server_service_pb2,
    session_service_pb2,
)
from typer.main import get_command

from gateway.access.policy import read_policy
from gateway.cli import app as server_app
from gateway.config import load_settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "clients").glob("*/README.md"))]
COMMANDS = {"gateway": get_command(server_app), "qgateway": get_command(client_app)}
SERVICES = (
    account_service_pb2,
    admin_service_pb2,
    backend_service_pb2,
    job_service_pb2,
    server_service_pb2,
    session_service_pb2,
)
PLACES = ("", "gateway/", "clients/python/src/qgateway/", "tests/")
"""What the paths on a page begin at."""
IBM_ACCOUNT = {"provider": "ibm", "crn": "crn:v1:bluemix:public:quantum-computing:us-east:a/0:0::", "key_env": "KEY"}


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    inner = {key: merged(one.get(key, {}), value) for key, value in other.items() if isinstance(value, dict)}
    return {**one, **other, **inner}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_examples_for_operators_are_a_valid_configuration_and_policy(tmp_path: Path) -> None:
    examples = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "operating.md").read_text(), re.DOTALL)
    (policy,) = (example for example in examples if "[tenants." in example)
    configuration: dict[str, Any] = {"accounts": {"lab": IBM_ACCOUNT}}
    for example in examples:
        if example != policy:
            configuration = merged(configuration, tomllib.loads(example))
    settings = load_settings(**configuration)
    assert settings.access.issuers
    assert settings.access.certificates
    (tmp_path / "policy.toml").write_text(policy)
    assert "physics" in read_policy(tmp_path / "policy.toml", settings.accounts).tenants


def commands(text: str, program: str) -> list[str]:
    """Return the lines of a page that run a program, in its blocks and in its sentences."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", text)
    return [line.strip() for line in lines if line.strip().startswith(f"{program} ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_one_with_these_options(page: Path) -> None:
    for program, top in COMMANDS.items():
        for line in commands(page.read_text(), program):
            command = top
            for word in shlex.split(line.partition(">")[0], comments=True)[1:]:
                options = {name for each in command.params for name in each.opts} | {"--help"}
                assert not word.startswith("--") or word in options, line
                inner: dict[str, Any] = getattr(command, "commands", {})
                assert not inner or word in inner or word.startswith("--"), line
                command = inner.get(word, command)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_target_of_make_is_one(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {line.split()[1] for line in commands(page.read_text(), "make")} <= targets


def test_everything_that_the_page_on_architecture_names_exists() -> None:
    sources = ("gateway", "clients", "tests", "benchmarks", "protos")
    files = [file for top in sources for kind in ("*.py", "*.proto") for file in (ROOT / top).rglob(kind)]
    files.append(ROOT / "Makefile")
    words = set(re.findall(r"\w+", "\n".join(file.read_text() for file in files)))
    text = re.sub(r"```.*?```", "", (ROOT / "docs" / "architecture.md").read_text(), flags=re.DOTALL)
    missing = []
    for name in re.findall(r"`([^`\n]+)`", text):
        if re.fullmatch(r"[\w./]+", name) and ("/" in name or name.endswith((".py", ".md", ".txt"))):
            known = any((ROOT / place / name).exists() for place in PLACES)
        else:
            known = words.issuperset(re.findall(r"[A-Za-z_]\w*", name))
        missing += [] if known else [name]
    assert missing == []


def test_the_readme_lists_every_call() -> None:
    rows = re.findall(r"^\| `(\w+Service)` \| (.*?) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    services = [service for module in SERVICES for service in module.DESCRIPTOR.services_by_name.values()]
    assert {name: set(re.findall(r"`(\w+)`", calls)) for name, calls in rows} == {
        service.name: {method.name for method in service.methods} for service in services
    }

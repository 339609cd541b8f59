"""The pages of the documentation: their examples can be used as they are, and their links lead somewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gateway.access.policy import read_policy
from gateway.config import load_settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "clients").glob("*/README.md"))]
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

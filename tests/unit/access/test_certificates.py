from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.access.certificates import CertificateRule
from gateway.config import ConfigError, load_settings
from gateway.config_callers import CertificateSettings
from gateway.domain.access import Role


@pytest.mark.parametrize(
    ("pattern", "is_uri", "name", "matches"),
    [
        ("ci.lab.example", False, "CI.lab.example", True),
        ("ci.lab.example", False, "ciXlab.example", False),
        ("*.lab.example", False, "a.lab.example", True),
        ("*.lab.example", False, "a.b.lab.example", False),
        ("*.lab.example", False, "a.lab.example.evil.example", False),
        ("spiffe://lab/ns/*/sa/bot", True, "spiffe://lab/ns/physics/sa/bot", True),
        ("spiffe://lab/ns/*/sa/bot", True, "spiffe://lab/ns/physics/x/sa/bot", False),
        ("spiffe://lab/ns/*", True, "spiffe://LAB/ns/a", False),
        ("spiffe://lab/ns/*", True, "spiffe://lab/ns/a\n", False),
        ("spiffe://lab/(a|b)+", True, "spiffe://lab/a", False),
    ],
)
def test_a_star_stands_for_one_part_of_a_name(pattern: str, is_uri: bool, name: str, matches: bool) -> None:
    assert bool(CertificateRule(pattern, is_uri, "physics", Role.VIEWER).matcher()(name)) is matches


@pytest.mark.parametrize(
    "fields", [{}, {"dns": "a", "uri": "b"}, {"dns": ""}, {"dns": "a b"}, {"dns": "a", "tenant": ""}]
)
def test_an_entry_needs_one_name_and_a_tenant(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        CertificateSettings(**fields)  # type: ignore[arg-type]


def test_callers_by_certificate_need_an_authority() -> None:
    with pytest.raises(ConfigError, match=r"server\.tls\.client_ca"):
        load_settings(access={"certificates": [{"dns": "ci.lab.example"}]})

"""What all tables of the configuration have in common."""

from __future__ import annotations

import ipaddress

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of settings. An unknown setting is a mistake, and a mistake must not pass in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def is_loopback_host(host: str) -> bool:
    """Return whether a host, by name or address, is this machine and cannot be reached from others."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""Which hosts are this machine."""

from __future__ import annotations

import ipaddress


def is_loopback_host(host: str) -> bool:
    """Return whether a host, by name or address, is this machine and cannot be reached from others.

    The client decides so, too, whether to use TLS (`qgateway._settings`): a distribution of its own, which neither needs the
    other for these lines.
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

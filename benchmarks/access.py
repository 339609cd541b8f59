"""`auth_cost`: what it costs to know who calls, what they may do, and how much of it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import Figure, Server, gateway_server, interleaved, median
from benchmarks.unary import finished_job, load

_TARGET = 0.85
_ROUNDS = 7
_METHOD = "/qgateway.v1.JobService/GetJob"
_ENDLESS = "1000000"
"""Calls a second that a caller may make here: they are counted as ever, and not refused."""
_POLICY = """
[tenants.dev]
accounts = ["local"]
backends = ["local_*"]
"""


def run(progress: Callable[[], None]) -> list[Figure]:
    """Measure GetJob at 64 in flight, with API key, policy, audit and limits, against the same server without all of them."""
    with tempfile.TemporaryDirectory() as folder:
        policy = Path(folder) / "policy.toml"
        policy.write_text(_POLICY)
        settings = {"ACCESS__POLICY": str(policy), "ACCESS__MAX_CALLS_PER_SECOND": _ENDLESS}
        with gateway_server(**settings) as guarded, gateway_server(command=_OPEN) as open_:
            measures = {"on": _get_job(guarded, Path(folder)), "off": _get_job(open_, Path(folder))}
            for warm_up in measures.values():
                warm_up()
            values = interleaved(measures, _ROUNDS, progress)
    value, baseline = median(values["on"]), median(values["off"])
    return [
        Figure(
            name="auth_cost",
            value=value,
            unit="calls/s",
            baseline=baseline,
            ratio=value / baseline,
            target=f">= {_TARGET}",
            met=value / baseline >= _TARGET,
            how="GetJob, 64 in flight, with API key, policy, audit and limits ÷ the same server without any of them",
        )
    ]


_OPEN = (sys.executable, "-m", "benchmarks.open_server")


def _get_job(server: Server, folder: Path) -> Callable[[], float]:
    request, size = finished_job(server)
    header = f"authorization: Bearer {server.api_key}"
    return load(server, _METHOD, request, folder / str(server.pid), [header], response_size=size)

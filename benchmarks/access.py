"""`auth_cost` and `mtls_get_job`: what it costs to know who calls, what they may do, and how much of it."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.bare_server import METHOD
from benchmarks.call_load import Calls, MutualTls, calling
from benchmarks.harness import Figure, Server, bare_server, gateway_server, interleaved, median
from benchmarks.unary import finished_job, load
from tests.support.authority import Authority

_TARGET = 0.85
_MTLS_TARGET = 0.75
_ROUNDS = 7
_METHOD = "/qgateway.v1.JobService/GetJob"
_CONNECTIONS = 8
_IN_FLIGHT = 8
_CALLS = 12_000
_CLIENT = "spiffe://bench.example/client"
_ENDLESS = "1000000"
"""Calls a second that a caller may make here: they are counted as ever, and not refused."""
_POLICY = """
[tenants.dev]
accounts = ["local"]
backends = ["local_*"]
"""


def run(progress: Callable[[], None]) -> list[Figure]:
    """Measure GetJob at 64 in flight with everything on: against the same server without it, and over mTLS against an echo."""
    with tempfile.TemporaryDirectory(prefix="qgateway-bench-") as name:
        folder = Path(name)
        policy = folder / "policy.toml"
        policy.write_text(_POLICY)
        settings = {"ACCESS__POLICY": str(policy), "ACCESS__MAX_CALLS_PER_SECOND": _ENDLESS}
        return [_auth_cost(settings, folder, progress), _mtls_get_job(settings, folder, progress)]


def _auth_cost(settings: dict[str, str], folder: Path, progress: Callable[[], None]) -> Figure:
    with gateway_server(**settings) as guarded, gateway_server(command=_OPEN) as open_:
        measures = {"on": _get_job(guarded, folder), "off": _get_job(open_, folder)}
        for warm_up in measures.values():
            warm_up()
        values = interleaved(measures, _ROUNDS, progress)
    value, baseline = median(values["on"]), median(values["off"])
    return Figure.compared(
        "auth_cost",
        "calls/s",
        value,
        baseline,
        "GetJob, 64 in flight, with API key, policy, audit and limits ÷ the same server without any of them",
        at_least=_TARGET,
    )


def _mtls_get_job(settings: dict[str, str], folder: Path, progress: Callable[[], None]) -> Figure:
    authority = Authority(folder)
    server, client = authority.issue("server"), authority.issue("client", uris=(_CLIENT,))
    certificate, key, root = (str(path) for path in (*server, authority.certificate))
    tls = MutualTls(root, *map(str, client))
    caller = {"uri": _CLIENT, "tenant": "dev", "role": "viewer"}
    settings |= {
        "SERVER__TLS__CERTIFICATE": certificate,
        "SERVER__TLS__KEY": key,
        "SERVER__TLS__CLIENT_CA": root,
        "ACCESS__CERTIFICATES": json.dumps([caller]),
    }
    with gateway_server(**settings) as gateway, bare_server("benchmarks.bare_server", certificate, key, root) as bare:
        request, size = finished_job(gateway, authority.channel_credentials(client))
        with (
            calling(_mtls_calls(gateway, _METHOD, request, tls)) as get_job,
            calling(_mtls_calls(bare, METHOD, b"x" * size, tls)) as echo,
        ):
            get_job(_CALLS), echo(_CALLS)  # warm up
            measures = {"get_job": lambda: _CALLS / get_job(_CALLS), "echo": lambda: _CALLS / echo(_CALLS)}
            values = interleaved(measures, _ROUNDS, progress)
    value, baseline = (median(values[name]) for name in measures)
    return Figure.compared(
        "mtls_get_job",
        "calls/s",
        value,
        baseline,
        f"GetJob over mTLS, {_CONNECTIONS} x {_IN_FLIGHT} in flight, the caller known by its certificate, with policy, audit "
        f"and limits ÷ bare grpc.aio echo of {size} bytes over mTLS; same caller",
        at_least=_MTLS_TARGET,
    )


def _mtls_calls(server: Server, method: str, request: bytes, tls: MutualTls) -> Calls:
    return Calls(server.target, method, request.hex(), {}, _CONNECTIONS, _IN_FLIGHT, own_texts=False, tls=tls)


_OPEN = (sys.executable, "-m", "benchmarks.open_server")


def _get_job(server: Server, folder: Path) -> Callable[[], float]:
    request, size = finished_job(server)
    header = f"authorization: Bearer {server.api_key}"
    return load(server, _METHOD, request, folder / str(server.pid), [header], response_size=size)

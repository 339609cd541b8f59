"""The commands `backends`, `backend` and `server`."""

from __future__ import annotations

from typing import Annotated

import typer

from qgateway.cli.output import size_text, time_text, yes_no
from qgateway.cli.plain import plain
from qgateway.cli.session import Session, up_to
from qgateway.v1 import backend_pb2, backend_service_pb2


def backends(
    session: Session,
    account: Annotated[str, typer.Option(metavar="NAME", help="Only backends of this account.")] = "",
    min_qubits: Annotated[
        int, typer.Option(min=0, callback=up_to(2**31 - 1), help="Only backends with at least so many qubits.")
    ] = 0,
    operational: Annotated[bool, typer.Option("--operational", help="Only backends that take jobs now.")] = False,
) -> None:
    """List the backends."""
    request = backend_service_pb2.ListBackendsRequest(
        account=account, min_num_qubits=min_qubits, operational_only=operational
    )
    found = list_backends(session, request)
    if session.output.as_json:
        session.output.document([plain(backend) for backend in found])
        return
    rows = (
        (
            backend.backend_id,
            backend.account,
            str(backend.num_qubits),
            yes_no(backend.simulator),
            status_of(backend),
            str(backend.status.pending_jobs),
        )
        for backend in found
    )
    session.output.table(("NAME", "ACCOUNT", "QUBITS", "SIMULATOR", "STATUS", "PENDING"), rows)


def backend(session: Session, name: Annotated[str, typer.Argument(help="Name of the backend.")]) -> None:
    """Show one backend."""
    request = backend_service_pb2.GetBackendRequest(name=name if "/" in name else f"backends/{name}")
    connection = session.connection
    found = connection.call(connection.backends.GetBackend, request).backend
    if session.output.as_json:
        session.output.document(plain(found))
        return
    session.output.facts(
        (
            ("Name", found.backend_id),
            ("Account", found.account),
            ("Description", found.description),
            ("Version", found.backend_version),
            ("Status", status_of(found)),
            ("Pending jobs", str(found.status.pending_jobs)),
            ("Qubits", str(found.num_qubits)),
            ("Simulator", yes_no(found.simulator)),
            ("Most shots", str(found.max_shots or "")),
            ("Most circuits", str(found.max_circuits or "")),
            ("Basis gates", ", ".join(found.basis_gates)),
            ("Couplings", f"{len(found.coupling_map)} pairs of qubits" if found.coupling_map else "all to all"),
            ("Control flow", yes_no(found.dynamic_circuits)),
            ("Shots in order", yes_no(found.memory)),
            ("Measurement levels", ", ".join(map(str, found.meas_levels))),
            ("Run options", ", ".join(found.run_options)),
            ("Since", time_text(found.online_time)),
        )
    )


def server(session: Session) -> None:
    """Show the gateway's version and limits."""
    info = session.connection.server_info()
    if session.output.as_json:
        session.output.document(plain(info))
        return
    retention = f"{info.result_retention.seconds / 86_400:g} days" if info.HasField("result_retention") else "no end"
    session.output.facts(
        (
            ("Gateway", session.connection.settings.target),
            ("Version", info.version),
            ("Largest request", size_text(info.max_request_bytes)),
            ("Largest program", size_text(info.max_program_bytes)),
            ("Chunk size", size_text(info.chunk_size_bytes)),
            ("Heartbeat interval", f"{info.heartbeat_interval.ToTimedelta().total_seconds():g} s"),
            ("QPY versions", f"{info.min_qpy_version} to {info.max_qpy_version}"),
            ("Most tags", str(info.max_tags)),
            ("Longest name", f"{info.max_name_length} characters"),
            ("Results are kept for", retention),
        )
    )


def list_backends(session: Session, request: backend_service_pb2.ListBackendsRequest) -> list[backend_pb2.Backend]:
    """Return the backends of all pages."""
    connection = session.connection
    found: list[backend_pb2.Backend] = []
    while True:
        page = connection.call(connection.backends.ListBackends, request)
        found += page.backends
        if not page.next_page_token:
            for account in page.unreachable:
                session.output.note(f"{account} cannot be asked now, so its backends are missing.")
            return found
        request.page_token = page.next_page_token


def status_of(backend: backend_pb2.Backend) -> str:
    """Return how a backend is, in one word or two."""
    word = backend.status.status_message or "active"
    return word if backend.status.operational else f"down: {word}"

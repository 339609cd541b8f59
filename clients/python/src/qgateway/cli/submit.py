"""The command `run`: a circuit from a file to a result."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Annotated

import typer

from qgateway.cli.backends import list_backends
from qgateway.cli.exits import CommandError, ExitCode
from qgateway.cli.jobs import job_data, status_of
from qgateway.cli.results import Top, fetch_result, result_data, show_result
from qgateway.cli.session import Session, job_id, up_to
from qgateway.cli.watching import Follower, Timeout, end_by_status, follow, follower_on
from qgateway.v1 import backend_service_pb2, job_pb2, job_service_pb2, program_pb2

_QPY_MARK = b"QISKIT"
_QPY_COUNT = struct.Struct("!6x4xQ")
"""The head of a QPY file, all versions that can be sent: mark, four version bytes, number of circuits."""
_SMALL_PROGRAM = 1024 * 1024
"""Bytes that fit into a request of any server; a larger program is measured against what the server takes."""
_INT64 = 2**63 - 1
_REQUEST_OVERHEAD = 64 * 1024
_TRANSPILE = (
    job_pb2.TRANSPILE_LEVEL_0,
    job_pb2.TRANSPILE_LEVEL_1,
    job_pb2.TRANSPILE_LEVEL_2,
    job_pb2.TRANSPILE_LEVEL_3,
)


def run(
    session: Session,
    *,
    file: Annotated[str, typer.Argument(metavar="FILE", help="OpenQASM 2 or 3 text, or QPY; `-` reads the input.")],
    backend: Annotated[
        str, typer.Option("--backend", "-b", metavar="NAME", help="Default: the first simulator that takes jobs.")
    ] = "",
    shots: Annotated[
        int | None, typer.Option("--shots", "-s", callback=up_to(_INT64), help="Default: the gateway's, 4000.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, callback=up_to(_INT64), help="Seed of a simulator, for repeatable results.")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="TAG", help="A tag for the job. Repeatable.")] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="A name for the job.")] = "",
    within: Annotated[str, typer.Option("--session", metavar="SESSION", help="A session to run in, by its id.")] = "",
    transpile: Annotated[
        int | None, typer.Option(min=0, max=3, help="Let the gateway transpile, at this optimisation level.")
    ] = None,
    param: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Value of an input parameter. Repeatable.")
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the result, or print the job and go.")
    ] = True,
    timeout: Timeout = None,
    top: Top = 16,
) -> None:
    """Run circuits and show their result."""
    # Qiskit, which comes along with it, takes half a second that other commands need not wait.
    from qgateway._requests import session_name

    program = make_program(_read(file), parse_parameters(param or []), "" if file == "-" else Path(file).stem)
    options = job_pb2.RunOptions(shots=shots, seed_simulator=seed)
    if transpile is not None:
        options.transpile = _TRANSPILE[transpile]
    request = job_service_pb2.SubmitJobRequest(
        backend=backend or _default_backend(session),
        options=options,
        display_name=name,
        tags=tag or (),
        session=session_name(within) if within else "",
        client_version={"qgateway": _version()},
    )
    _attach(session, request, program)
    connection = session.connection
    job = connection.call(connection.jobs.SubmitJob, request).job
    if wait:
        _wait(session, job, timeout, top)
    elif session.output.as_json:
        session.output.document({"job": job_data(job)})
    else:
        session.output.text(job_id(job.name))


def make_program(data: bytes, parameters: dict[str, float], circuit_name: str) -> program_pb2.Program:
    """Return the program that a file holds, by its content: QPY, or else OpenQASM text.

    Args:
        data: Content of the file.
        parameters: Values of the input parameters, for every circuit.
        circuit_name: Name of the circuit, where the form has none of its own. May be empty.

    Raises:
        CommandError: It is neither.
    """
    binding = [program_pb2.ParameterBinding(values=parameters)] if parameters else []
    if data.startswith(_QPY_MARK):
        indices = _circuit_indices(data)
        bindings = [program_pb2.CircuitBindings(circuit_index=each, bindings=binding) for each in indices if binding]
        return program_pb2.Program(qpy=program_pb2.QpyProgram(data=data, circuit_bindings=bindings))
    try:
        source = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise CommandError("The file is neither OpenQASM text in UTF-8 nor QPY.") from None
    if not source.strip():
        raise CommandError("The file is empty.")
    circuit = program_pb2.OpenQasmCircuit(source=source, circuit_name=circuit_name, bindings=binding)
    return program_pb2.Program(openqasm=program_pb2.OpenQasmProgram(circuits=[circuit]))


def parse_parameters(texts: list[str]) -> dict[str, float]:
    """Return the values of `--param NAME=VALUE` options.

    Raises:
        CommandError: One is not of that form, its value is no number, or a name is given twice.
    """
    values: dict[str, float] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals or name in values:
            raise CommandError(f"--param {text!r}: give NAME=VALUE, each name once.")
        try:
            values[name] = float(value)
        except ValueError:
            raise CommandError(f"--param {text!r}: {value!r} is not a number.") from None
    return values


def _read(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise CommandError(f"Cannot read {file!r}: {error.strerror}.") from None


def _circuit_indices(data: bytes) -> range:
    """Return the indices of the circuits in a QPY file, by its head."""
    if len(data) < _QPY_COUNT.size:
        raise CommandError("The file ends within the head of a QPY file.")
    (count,) = _QPY_COUNT.unpack_from(data)
    if count > len(data):
        raise CommandError(f"The QPY file is damaged: {len(data)} bytes cannot hold {count} circuits.")
    return range(count)


def _default_backend(session: Session) -> str:
    request = backend_service_pb2.ListBackendsRequest(operational_only=True)
    simulator = next((each for each in list_backends(session, request) if each.simulator), None)
    if simulator is None:
        raise CommandError("No simulator takes jobs now: name a backend with --backend.", ExitCode.NOT_FOUND)
    session.output.note(f"Backend: {simulator.backend_id}")
    return simulator.backend_id


def _attach(session: Session, request: job_service_pb2.SubmitJobRequest, program: program_pb2.Program) -> None:
    """Put the program into the request, or upload it and refer to it where it is too large for a message."""
    size = program.ByteSize()
    if size > _SMALL_PROGRAM:
        from qgateway._transfer import upload_program

        limit = session.connection.server_info().max_request_bytes
        if limit and size > limit - _REQUEST_OVERHEAD:
            request.program_sha256 = upload_program(session.connection, program.SerializeToString())
            return
    request.program.CopyFrom(program)


def _wait(session: Session, job: job_pb2.Job, timeout: float | None, top: int) -> None:
    output = session.output
    follower = Follower() if output.as_json else follower_on(output.errors, job)
    try:
        job = follow(session, job, follower, timeout)
    except (KeyboardInterrupt, TimeoutError):
        name = job_id(job.name)
        output.note(f"The job goes on. 'qgateway watch {name}' follows it, 'qgateway cancel {name}' ends it.")
        raise
    found = fetch_result(session, job.name) if status_of(job) == "DONE" else None
    if output.as_json:
        output.document({"job": job_data(job), "result": result_data(found) if found else None})
    elif found:
        show_result(output, found, top)
    end_by_status(job)


def _version() -> str:
    from importlib.metadata import version

    return version("qgateway")

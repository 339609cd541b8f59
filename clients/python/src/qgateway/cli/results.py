"""The command `result`, and how a result is fetched and shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer

from qgateway._errors import GatewayCallError
from qgateway._files import whole_file
from qgateway.cli.counts import add_counts
from qgateway.cli.exits import CommandError
from qgateway.cli.histogram import bars
from qgateway.cli.jobs import JobArgument, read_job
from qgateway.cli.output import Output, size_text
from qgateway.cli.plain import plain
from qgateway.cli.session import Session, job_id, job_name
from qgateway.v1 import job_service_pb2, result_pb2

Top = Annotated[int, typer.Option("--top", min=1, help="Most outcomes to show of each circuit.")]


def result(
    session: Session,
    job: JobArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            dir_okay=False,
            help="Write the result to a file: the JSON document if its name ends in .json or with --json, "
            "else the whole result as a serialised qgateway.v1.JobResult.",
        ),
    ] = None,
    top: Top = 16,
) -> None:
    """Show the result of a job: histograms, a JSON document with --json, or a file with --output."""
    name = job_name(job)
    if not name.startswith("jobs/"):
        name = read_job(session, job).name
    if output is not None:
        as_json = session.output.as_json or output.suffix == ".json"
        _save(session, name, output, as_json=as_json)
        return
    show_result(session.output, fetch_result(session, name), top)


def fetch_result(session: Session, name: str) -> result_pb2.JobResult:
    """Return the result of a job with its counts, without its shots where the gateway can leave them out.

    Args:
        session: The session.
        name: Resource name of the job.

    Raises:
        GatewayCallError: There is no result, or it cannot be read.
    """
    from qgateway._transfer import download_result

    connection = session.connection
    request = job_service_pb2.GetJobResultRequest(name=name, include_counts=True, omit_shots=True)
    try:
        return connection.call(connection.jobs.GetJobResult, request, job_id=job_id(name)).result
    except GatewayCallError as error:
        if error.reason != "RESULT_TOO_LARGE":
            raise
    with _progress(session.output) as progress:
        found = result_pb2.JobResult.FromString(download_result(connection, name, progress=progress))
    add_counts(found)
    return found


def result_data(found: result_pb2.JobResult) -> dict[str, Any]:
    """Return a result as plain data for JSON: counts and metadata; the shots are in the file that `--output` writes."""
    data: dict[str, Any] = plain(found)
    data["experiments"] = [_experiment_data(experiment) for experiment in found.experiments]
    if found.HasField("raw"):
        data["raw"] = {"media_type": found.raw.media_type, "payload": _payload(found.raw)}
    return data


def show_result(output: Output, found: result_pb2.JobResult, top: int) -> None:
    """Print a result: JSON, or a histogram of each circuit."""
    if output.as_json:
        output.document(result_data(found))
        return
    for experiment in found.experiments:
        count = f"{experiment.shots} shots" if experiment.success else f"failed: {experiment.status}"
        output.text(f"{experiment.circuit_name or 'circuit'}: {count}", style="bold")
        if experiment.counts:
            for line in bars(experiment.counts, output.console, top):
                output.text(line)
        elif experiment.success:
            output.text("No counts; --output writes what was measured to a file.", style="dim")
        output.text()
    if found.HasField("raw"):
        payload = _payload(found.raw)
        output.text(payload if isinstance(payload, str) else json.dumps(payload, indent=2))


def _experiment_data(experiment: result_pb2.ExperimentResult) -> dict[str, Any]:
    data: dict[str, Any] = plain(experiment)
    data["registers"] = [{"register_name": each.register_name, "size": each.size} for each in experiment.registers]
    return data


def _payload(raw: result_pb2.RawResult) -> Any:
    """Return a provider's payload: read if it is JSON, as text if it is text, else in hexadecimal."""
    try:
        return json.loads(raw.payload) if raw.media_type.startswith("application/json") else raw.payload.decode()
    except ValueError:
        return raw.payload.hex()


def _save(session: Session, name: str, path: Path, *, as_json: bool) -> None:
    from qgateway._transfer import download_result_to

    def write(file: BinaryIO) -> None:
        if as_json:
            document = json.dumps(result_data(fetch_result(session, name)), indent=2)
            file.write(document.encode() + b"\n")
            return
        with _progress(session.output) as progress:
            download_result_to(session.connection, name, file, progress=progress)

    try:
        with whole_file(path) as file:
            write(file)
    except OSError as error:
        raise CommandError(f"--output: cannot write {str(path)!r}: {error.strerror or error}.") from None
    if path.is_file():
        session.output.note(f"{path}: {size_text(path.stat().st_size)}")


@contextmanager
def _progress(output: Output) -> Iterator[Callable[[int, int], None] | None]:
    """Give a function that shows how far a download is, on a terminal; None elsewhere."""
    if not output.errors.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.errors, transient=True) as progress:
        task = progress.add_task("download", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)

"""The commands on jobs that need one answer: `jobs`, `show`, `cancel`, `tag`, `rename`, `delete`."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from qgateway._errors import GatewayCallError
from qgateway.cli.exits import CommandError
from qgateway.cli.output import elapsed_text, size_text, status_text, time_text
from qgateway.cli.plain import plain
from qgateway.cli.session import Session, job_id, job_name
from qgateway.v1 import job_pb2, job_service_pb2

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]

StatusOption = Annotated[
    list[str] | None,
    typer.Option(metavar="STATUS", help="Only jobs in this status; also `pending`, `completed`. Repeatable."),
]
BackendOption = Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only jobs on this backend. Repeatable.")]
TagOption = Annotated[
    list[str] | None, typer.Option(metavar="TAG", help="Only jobs with this tag. Repeatable: with all of them.")
]
NameOption = Annotated[str, typer.Option(metavar="NAME", help="Only jobs of exactly this name.")]

FINAL = ("CANCELLED", "DONE", "ERROR")
_WORDS = tuple(name.removeprefix("JOB_STATUS_") for name in job_pb2.JobStatus.keys()[1:])
_GROUPS = {"PENDING": tuple(word for word in _WORDS if word not in FINAL), "COMPLETED": FINAL}
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_PAGE = 100
_ATTEMPTS = 5


def status_of(job: job_pb2.Job) -> str:
    """Return the status of a job as a word."""
    return job_pb2.JobStatus.Name(job.status).removeprefix("JOB_STATUS_")


def job_data(job: job_pb2.Job) -> dict[str, Any]:
    """Return a job as plain data for JSON, with its id."""
    return {"id": job_id(job.name), **plain(job)}


def read_job(session: Session, job: str) -> job_pb2.Job:
    """Return a job that was named by its id or by its resource name."""
    connection = session.connection
    request = job_service_pb2.GetJobRequest(name=job_name(job))
    return connection.call(connection.jobs.GetJob, request, job_id=job_id(job)).job


def jobs(
    session: Session,
    *,
    status: StatusOption = None,
    backend: BackendOption = None,
    tag: TagOption = None,
    name: NameOption = "",
    limit: Annotated[int, typer.Option(min=1, help="Most jobs to list.")] = 20,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Only jobs made since: `30m`, `2h`, `7d`, or a date and time.")
    ] = "",
) -> None:
    """List jobs, newest first."""
    conditions = job_filter(status, backend, tag, name)
    if since:
        conditions.created_after.FromDatetime(parse_since(since))
    found = list(_list_jobs(session, conditions, limit))
    if session.output.as_json:
        session.output.document([job_data(job) for job in found])
        return
    rows = (
        (
            job_id(job.name),
            status_text(status_of(job)),
            job.backend,
            job.display_name,
            ", ".join(job.tags),
            time_text(job.create_time),
        )
        for job in found
    )
    session.output.table(("JOB", "STATUS", "BACKEND", "NAME", "TAGS", "CREATED"), rows, folded=("NAME", "TAGS"))


def show(session: Session, job: JobArgument) -> None:
    """Show one job."""
    found = read_job(session, job)
    if session.output.as_json:
        session.output.document(job_data(found))
    else:
        session.output.facts(_facts(found))


def cancel(session: Session, job: JobArgument) -> None:
    """Cancel a job that has not ended."""
    connection = session.connection
    request = job_service_pb2.CancelJobRequest(name=_name(session, job))
    found = connection.call(connection.jobs.CancelJob, request, job_id=job_id(job)).job
    if session.output.as_json:
        session.output.document(job_data(found))
    elif status_of(found) == "CANCELLED":
        session.output.text(f"Job {job_id(found.name)} is cancelled.")
    else:
        session.output.text(
            f"Cancellation of job {job_id(found.name)} is under way; it is still {status_of(found)}. "
            f"`qgateway watch {job_id(found.name)}` follows it."
        )


def tag(
    session: Session,
    *,
    job: JobArgument,
    tags: Annotated[list[str] | None, typer.Argument(metavar="[TAG]...", help="The tags.")] = None,
    add: Annotated[bool, typer.Option("--add", help="Add the tags to those that the job has.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take the tags away from those that the job has.")] = False,
    clear: Annotated[bool, typer.Option("--clear", help="Take all tags away.")] = False,
) -> None:
    """Replace the tags of a job; or add to them, or take some away."""
    given = list(dict.fromkeys(tags or ()))
    if [add, remove, clear].count(True) > 1:
        raise CommandError("--add, --remove and --clear exclude each other.")
    if bool(given) == clear:
        raise CommandError("Give tags, or --clear to take all away.")

    def change(old: job_pb2.Job) -> list[str]:
        if add:
            return list(dict.fromkeys([*old.tags, *given]))
        return [each for each in old.tags if each not in given] if remove else given

    found = _update_tags(session, job, change)
    if session.output.as_json:
        session.output.document(job_data(found))
    else:
        session.output.text(f"Tags of job {job_id(found.name)}: {', '.join(found.tags) or 'none'}")


def rename(
    session: Session,
    job: JobArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new name; an empty one takes it away.")],
) -> None:
    """Give a job another name."""
    request = job_service_pb2.UpdateJobRequest(job=job_pb2.Job(name=_name(session, job), display_name=name))
    request.update_mask.paths.append("display_name")
    connection = session.connection
    found = connection.call(connection.jobs.UpdateJob, request, job_id=job_id(job)).job
    if session.output.as_json:
        session.output.document(job_data(found))
    elif found.display_name:
        session.output.text(f"Job {job_id(found.name)} is now named {found.display_name!r}.")
    else:
        session.output.text(f"Job {job_id(found.name)} has no name any more.")


def delete(
    session: Session,
    job: JobArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a job that has ended, with its program and result. Asks first, on a terminal."""
    name = _name(session, job)
    if not yes and sys.stdin.isatty():
        typer.confirm(f"Delete job {job_id(name)} with its program and result?", abort=True, err=True)
    connection = session.connection
    connection.call(connection.jobs.DeleteJob, job_service_pb2.DeleteJobRequest(name=name), job_id=job_id(name))
    if session.output.as_json:
        session.output.document({"id": job_id(name), "deleted": True})
    else:
        session.output.text(f"Job {job_id(name)} is deleted.")


def job_filter(
    status: list[str] | None, backend: list[str] | None, tag: list[str] | None, name: str
) -> job_pb2.JobFilter:
    """Return which jobs the options mean.

    Raises:
        CommandError: A status is not known.
    """
    return job_pb2.JobFilter(
        statuses=[number for word in status or () for number in _status_numbers(word)],
        backends=backend or (),
        all_tags=tag or (),
        display_name=name,
    )


def parse_since(text: str) -> datetime:
    """Return the moment, in UTC, that `--since` names.

    Args:
        text: A length of time back from now, such as `2h`, or a date and time; without a zone it is local time.

    Raises:
        CommandError: It is neither.
    """
    try:
        if match := re.fullmatch(r"([0-9]{1,18})([smhdw])", text):
            return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
        return datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError:
        raise CommandError(f"--since {text!r} lies outside of the calendar.") from None
    except ValueError:
        raise CommandError(f"--since {text!r} is neither a length such as 30m, 2h or 7d, nor an ISO date.") from None


def _name(session: Session, job: str) -> str:
    """Return the `jobs/{job}` name, asking the gateway where a job is named by its provider id."""
    name = job_name(job)
    return name if name.startswith("jobs/") else read_job(session, job).name


def _status_numbers(word: str) -> list[job_pb2.JobStatus.ValueType]:
    words = _GROUPS.get(word.upper(), (word.upper(),))
    if not set(words) <= set(_WORDS):
        known = ", ".join(each.lower() for each in (*_WORDS, *_GROUPS))
        raise CommandError(f"--status {word!r} is not a status; these are: {known}.")
    return [job_pb2.JobStatus.Value(f"JOB_STATUS_{each}") for each in words]


def _list_jobs(session: Session, conditions: job_pb2.JobFilter, limit: int) -> Iterator[job_pb2.Job]:
    connection = session.connection
    request = job_service_pb2.ListJobsRequest(filter=conditions, page_size=min(limit, _PAGE))
    while True:
        page = connection.call(connection.jobs.ListJobs, request)
        yield from page.jobs[:limit]
        limit -= len(page.jobs)
        if limit <= 0 or not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _update_tags(session: Session, job: str, change: Callable[[job_pb2.Job], list[str]]) -> job_pb2.Job:
    """Change the tags by what they are now; begin anew if somebody else changed the job meanwhile."""
    connection = session.connection
    for attempt in range(_ATTEMPTS):
        old = read_job(session, job)
        request = job_service_pb2.UpdateJobRequest(job=job_pb2.Job(name=old.name, tags=change(old)), etag=old.etag)
        request.update_mask.paths.append("tags")
        try:
            return connection.call(connection.jobs.UpdateJob, request, job_id=job_id(old.name)).job
        except GatewayCallError as error:
            if error.code != "ABORTED" or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _facts(job: job_pb2.Job) -> Iterator[tuple[str, Any]]:
    yield "Job", job_id(job.name)
    yield "Name", job.display_name
    yield "Status", status_text(status_of(job))
    yield "Failure", f"{job.failure.reason}: {job.failure.message}" if job.HasField("failure") else ""
    yield "Pending because", job.pending_reason.message
    yield "Queue position", str(job.queue.position) if job.queue.HasField("position") else ""
    yield "Backend", job.backend
    yield "Account", job.account
    yield "Tags", ", ".join(job.tags)
    yield "Session", job_id(job.session)
    yield "Program", _program_text(job)
    yield "Shots", str(job.options.shots or "")
    yield "Created", time_text(job.create_time)
    yield "Started", time_text(job.start_time)
    yield "Ended", time_text(job.end_time)
    yield "Took", _took_text(job)
    yield "Time on the backend", _seconds_text(job)
    yield "Result", size_text(job.result.size_bytes) if job.HasField("result") else ""
    yield "Result kept until", time_text(job.result.expire_time)
    yield "Submitted by", job.creator
    yield "Provider's id", job.provider_job_id
    yield "Provider's status", job.provider_status


def _program_text(job: job_pb2.Job) -> str:
    kind = type(job.program).Kind.Name(job.program.kind).removeprefix("KIND_")
    count = job.program.circuit_count
    if not count:
        return "" if kind == "UNSPECIFIED" else kind
    return f"{kind}, {count} circuit{'s' * (count != 1)}, {job.program.num_qubits} qubits"


def _took_text(job: job_pb2.Job) -> str:
    if not job.HasField("end_time"):
        return ""
    return elapsed_text(job.end_time.ToDatetime().timestamp() - job.create_time.ToDatetime().timestamp())


def _seconds_text(job: job_pb2.Job) -> str:
    charged = job.usage.charged_qpu_time
    return f"{charged.ToTimedelta().total_seconds():g} s" if job.usage.HasField("charged_qpu_time") else ""

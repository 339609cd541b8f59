"""Following a job: the command `watch`, and what `run --wait` shares with it."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Self

import typer
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from qgateway.cli.exits import CommandError, ExitCode
from qgateway.cli.jobs import (
    FINAL,
    BackendOption,
    NameOption,
    StatusOption,
    TagOption,
    job_data,
    job_filter,
    read_job,
    status_of,
)
from qgateway.cli.output import Output, clock_text, elapsed_text, safe, status_text
from qgateway.cli.plain import plain
from qgateway.cli.session import Session, job_id
from qgateway.v1 import job_pb2

if TYPE_CHECKING:
    from qgateway._errors import GatewayCallError
    from qgateway._watch_state import QueueUpdate

Timeout = Annotated[
    float | None,
    typer.Option("--timeout", metavar="SECONDS", min=0, help="Stop after so long; exit code 5 if a job is waited for."),
]


class Follower:
    """Shows what a watch brings. This one shows nothing; those below show what they override."""

    def __enter__(self) -> Self:
        """Begin to show."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """End."""

    def event(self, event: job_pb2.JobEvent) -> None:
        """Show a change of the job."""

    def queue(self, update: QueueUpdate) -> None:
        """Show the place in the queue."""

    def interrupted(self, error: GatewayCallError, delay: float) -> None:
        """Show that the connection is away, and for how long at least."""


class JsonLines(Follower):
    """Prints each event and each place in the queue as a JSON document on a line of its own."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def event(self, event: job_pb2.JobEvent) -> None:
        """Print the event with the job after it."""
        self._output.record({"event": {**plain(event), "job": job_data(event.job)}})

    def queue(self, update: QueueUpdate) -> None:
        """Print the place in the queue."""
        times = {
            "estimated_start_time": update.estimated_start,
            "estimated_completion_time": update.estimated_completion,
        }
        shown = {name: moment.isoformat() if moment else None for name, moment in times.items()}
        self._output.record({"queue": {"position": update.position, **shown}})


class Lines(Follower):
    """Prints a line for each change.

    Args:
        console: Where to.
        with_job: Whether to name the job on each line.
    """

    def __init__(self, console: Console, *, with_job: bool = False) -> None:
        self._console = console
        self._with_job = with_job

    def event(self, event: job_pb2.JobEvent) -> None:
        """Print time, status, and what there is to say."""
        moment = event.event_time.ToDatetime(tzinfo=UTC) if event.HasField("event_time") else datetime.now(UTC)
        job = job_id(event.job.name) if self._with_job else ""
        self._print(moment, status_of(event.job), explanation(event.job) or event.message, job)

    def queue(self, update: QueueUpdate) -> None:
        """Print the place in the queue."""
        if text := queue_text(update):
            self._print(datetime.now(UTC), "QUEUED", text)

    def interrupted(self, error: GatewayCallError, delay: float) -> None:
        """Print that the connection is away."""
        self._print(datetime.now(UTC), "", interruption_text(error, delay))

    def _print(self, moment: datetime, status: str, text: str, job: str = "") -> None:
        name = (job, "  ") if job else ()
        line = Text.assemble(clock_text(moment), "  ", *name, status_text(f"{status:<12}"), "  ", safe(text))
        line.rstrip()
        self._console.print(line, soft_wrap=True)


class LiveLine(Follower):
    """Keeps one line on the terminal up to date: status, place in the queue, elapsed time."""

    def __init__(self, console: Console, job: job_pb2.Job) -> None:
        self._job = job
        self._note = explanation(job)
        self._spinner = Spinner("dots")
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=8, transient=False)

    def __enter__(self) -> Self:
        """Take the line."""
        self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Leave the line as it is."""
        self._live.stop()

    def event(self, event: job_pb2.JobEvent) -> None:
        """Show the job as it is now."""
        self._job = event.job
        self._note = explanation(event.job)

    def queue(self, update: QueueUpdate) -> None:
        """Show the place in the queue."""
        self._note = queue_text(update) or self._note

    def interrupted(self, error: GatewayCallError, delay: float) -> None:
        """Show that the connection is away."""
        self._note = interruption_text(error, delay)

    def _render(self) -> Text | Spinner:
        status = status_of(self._job)
        line = Text.assemble((job_id(self._job.name), "bold"), "  ", status_text(status), f"  {self._elapsed()}")
        if self._note:
            line.append(f"  {safe(self._note)}")
        if status in FINAL:
            return line
        self._spinner.update(text=line)
        return self._spinner

    def _elapsed(self) -> str:
        if not self._job.HasField("create_time"):
            return ""
        end = self._job.end_time.ToDatetime(tzinfo=UTC) if self._job.HasField("end_time") else datetime.now(UTC)
        return elapsed_text((end - self._job.create_time.ToDatetime(tzinfo=UTC)).total_seconds())


def watch(
    session: Session,
    job: Annotated[str, typer.Argument(metavar="JOB", help="Id of the job. Default: all jobs, from now on.")] = "",
    *,
    status: StatusOption = None,
    backend: BackendOption = None,
    tag: TagOption = None,
    name: NameOption = "",
    timeout: Timeout = None,
) -> None:
    """Follow a job until it has ended, or all jobs that match until Ctrl-C; JSON lines with --json."""
    if not job:
        follow_all(session, job_filter(status, backend, tag, name), timeout)
        return
    if status or backend or tag or name:
        raise CommandError("Give a job, or options that say which jobs; not both.")
    from qgateway._watch_state import WatchTimeout

    # Reading the job first makes a wrong id or a gateway that is away an error at once; the watch itself would try on.
    begun = time.monotonic()
    found = read_job(session, job)
    output = session.output
    follower = JsonLines(output) if output.as_json else follower_on(output.console, found)
    left = None if timeout is None else timeout - (time.monotonic() - begun)
    try:
        end_by_status(follow(session, found, follower, left))
    except WatchTimeout as over:  # it knows only what was left of the time
        raise WatchTimeout(over.job_id, timeout or 0.0) from None


def follow_all(session: Session, conditions: job_pb2.JobFilter, timeout: float | None) -> None:
    """Print the changes of all jobs that match, from now on.

    Args:
        session: The session.
        conditions: Which jobs.
        timeout: Seconds after which it ends; None for no limit.

    Raises:
        GatewayCallError: The gateway refuses the watch, or is not there.
    """
    from qgateway._watch import watch as read
    from qgateway._watch_state import ManyJobs, QueueUpdate, WatchState, WatchTimeout

    connection, output = session.connection, session.output
    connection.server_info()  # a gateway that is away is an error at once
    follower = JsonLines(output) if output.as_json else Lines(output.console, with_job=True)
    state = WatchState(ManyJobs(conditions), connection.settings.target, now=time.monotonic(), timeout=timeout)
    with follower, suppress(WatchTimeout):
        for item in read(connection, state, follower.interrupted):
            if not isinstance(item, QueueUpdate):
                follower.event(item)


def follower_on(console: Console, job: job_pb2.Job) -> Follower:
    """Return what shows a watch to people: a live line on a terminal, else lines."""
    return LiveLine(console, job) if console.is_terminal else Lines(console)


def follow(session: Session, job: job_pb2.Job, follower: Follower, timeout: float | None) -> job_pb2.Job:
    """Watch a job until it has ended; return it as it is then.

    Args:
        session: The session.
        job: The job as last read.
        follower: Shows what comes.
        timeout: Seconds; None for no limit.

    Raises:
        WatchTimeout: The time is over.
        GatewayCallError: The gateway refuses the watch.
    """
    from qgateway._watch import watch_job
    from qgateway._watch_state import QueueUpdate

    with follower:
        items = watch_job(session.connection, job.name, timeout=timeout, on_interruption=follower.interrupted)
        for item in items:
            if isinstance(item, QueueUpdate):
                follower.queue(item)
            else:
                job = item.job
                follower.event(item)
    return job


def end_by_status(job: job_pb2.Job) -> None:
    """End the command with the exit code of a job that has ended, unless it is DONE."""
    if status_of(job) != "DONE":
        raise typer.Exit(ExitCode.JOB_FAILED)


def explanation(job: job_pb2.Job) -> str:
    """Return why a job failed, or why it is not done; empty if there is nothing to say."""
    if job.HasField("failure"):
        return f"{job.failure.reason}: {job.failure.message}"
    if job.queue.HasField("position"):
        return f"position {job.queue.position} in the queue"
    return job.pending_reason.message


def queue_text(update: QueueUpdate) -> str:
    """Return the place in the queue for people; empty if nothing is known."""
    parts = [] if update.position is None else [f"position {update.position} in the queue"]
    if update.estimated_start is not None:
        parts.append(f"to start at about {clock_text(update.estimated_start)}")
    return ", ".join(parts)


def interruption_text(error: GatewayCallError, delay: float) -> str:
    """Return for people that the connection is away."""
    return f"no connection ({error.reason or error.code}); next attempt in {delay:.1f} s"

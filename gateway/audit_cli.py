"""The commands `gateway audit`: check and export the audit trail, also while the server runs."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

app = typer.Typer(help="The audit trail. The database is that of the server's settings.", no_args_is_help=True)

_BATCH = 1000

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file with the settings. Default: the one named by GATEWAY_CONFIG, or none."),
]
Time = Annotated[datetime | None, typer.Option(help="ISO time; without a zone it is local time.")]


@app.command()
def verify(
    config_file: ConfigFile = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(
            help="SEQUENCE:HASH as an earlier run printed it. The trail must still have it. May be given several times."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Check that no record is missing or altered. Exit code 1 if one is.

    The last line names the newest record and its hash. Keep it away from the database: given back with --expect, it proves that
    the trail was not made anew.
    """
    from rich.console import Console

    from gateway.store import AuditReads, AuditTrailBroken, read_only
    from gateway.store.audit import START

    end, problem = START, ""
    status = Console(stderr=True).status("Checking the audit trail ...")
    with read_only(_database(config_file)) as connection, status:
        try:
            for end in AuditReads(connection).links(_parse(expect or [])):
                if end.sequence % _BATCH == 0:
                    status.update(f"Checking the audit trail: {end.sequence} records")
        except AuditTrailBroken as broken:
            problem = str(broken)
    if as_json:
        typer.echo(orjson.dumps({"ok": not problem, "problem": problem, "records": end.sequence, "hash": end.hash}))
    elif problem:
        typer.echo(f"The audit trail is broken. {problem} Up to record {end.sequence} it is right.", err=True)
    else:
        typer.echo(f"The audit trail is whole: {end.sequence} records.\n{end.sequence}:{end.hash}")
    raise typer.Exit(1 if problem else 0)


@app.command()
def export(  # noqa: PLR0917 - options of a command have no positions
    config_file: ConfigFile = None,
    since: Time = None,
    until: Time = None,
    tenant: Annotated[str, typer.Option(help="Only this tenant.")] = "",
    resource: Annotated[str, typer.Option(help="Only this resource, such as jobs/ID.")] = "",
    output: Annotated[Path | None, typer.Option(help="File to write. Default: standard output.")] = None,
) -> None:
    """Write the records as JSON lines, oldest first. Each bears its hash."""
    from gateway.store import AuditQuery, AuditReads, read_only

    where = AuditQuery(tenant, resource, _aware(since), _aware(until))
    with read_only(_database(config_file)) as connection:
        stream = sys.stdout.buffer if output is None else output.open("wb")
        try:
            reads, after = AuditReads(connection), 0
            while records := reads.records(where, after=after, limit=_BATCH):
                for record in records:
                    stream.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z))
                after = records[-1].sequence
        finally:
            stream.flush() if output is None else stream.close()


def _database(config_file: Path | None) -> Path:
    from gateway.config import load_settings

    return load_settings(config_file).store.path


def _aware(time: datetime | None) -> datetime | None:
    return time if time is None or time.tzinfo else time.astimezone()


def _parse(expected: list[str]) -> dict[int, str]:
    parsed: dict[int, Any] = {}
    for item in expected:
        sequence, _, digest = item.partition(":")
        if not sequence.isdecimal() or not digest:
            raise typer.BadParameter(f"{item!r} is not SEQUENCE:HASH", param_hint="--expect")
        parsed[int(sequence)] = digest
    return parsed

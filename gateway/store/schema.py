"""The tables, and how a statement on them becomes SQL text.

Tables and statements are defined once, with SQLAlchemy. What runs thousands of times a second is compiled once and then goes
straight to the driver, because SQLAlchemy's own execution costs several times as much as such a statement itself.

Times are integers: microseconds since 1970, UTC. They sort and compare without a rule about formats.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    ClauseElement,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    insert,
    literal_column,
)
from sqlalchemy.dialects import sqlite

SCHEMA_REVISION = "0009"
"""The newest migration, whose outcome `metadata` describes. A database that names it is opened without a look at the migrations."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)

# SQLite numbers rows by itself only in a column of type INTEGER, which holds 64 bits there.
_Counter = BigInteger().with_variant(Integer, "sqlite")

programs = Table(
    "programs",
    metadata,
    Column("sha256", Text, primary_key=True),  # of the bytes before encoding
    Column("size", BigInteger, nullable=False),  # bytes before encoding
    Column("encoding", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

# `document` is the whole job; the columns before it repeat what is searched for. It comes last, so that a scan of the others does
# not have to step over it.
jobs = Table(
    "jobs",
    metadata,
    Column("seq", _Counter, primary_key=True),  # order of creation
    Column("id", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("final", Boolean, nullable=False),  # whether `status` is final
    Column("display_name", Text, nullable=False),
    Column("session", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("provider_job_id", Text, nullable=False),
    Column("program_sha256", Text, ForeignKey("programs.sha256"), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
    UniqueConstraint("id"),
    sqlite_autoincrement=True,
)

# SQLite uses a partial index only for a query that repeats its condition literally, hence one object for both.
_EMPTY: ColumnElement[str] = literal_column("''")
is_unfinished = jobs.c.final == false()
has_request_id = jobs.c.request_id != _EMPTY
has_provider_job_id = jobs.c.provider_job_id != _EMPTY


def _partial_index(
    name: str, *columns: Column[str] | Column[int], where: ColumnElement[bool], unique: bool = False
) -> Index:
    return Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


_partial_index("uq_jobs_request", jobs.c.tenant, jobs.c.request_id, where=has_request_id, unique=True)
_partial_index("ix_jobs_provider", jobs.c.account, jobs.c.provider_job_id, where=has_provider_job_id)
_partial_index("ix_jobs_unfinished_tenant", jobs.c.tenant, jobs.c.seq, where=is_unfinished)
_partial_index("ix_jobs_unfinished_account", jobs.c.account, jobs.c.seq, where=is_unfinished)
Index("ix_jobs_program", jobs.c.program_sha256)
# A listing walks a tenant's jobs by age and tests the last two columns without touching the rows.
Index("ix_jobs_tenant", jobs.c.tenant, jobs.c.seq, jobs.c.created_at, jobs.c.status)

# The tenant is repeated here so that a tag which another tenant uses a million times costs this one nothing.
job_tags = Table(
    "job_tags",
    metadata,
    Column("tag", Text, primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("job_seq", BigInteger, ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True),
    sqlite_with_rowid=False,
)
Index("ix_job_tags_job", job_tags.c.job_seq)

results = Table(
    "results",
    metadata,
    Column("job_seq", _Counter, ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True),
    Column("size", BigInteger, nullable=False),  # bytes before encoding
    Column("encoding", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

# Results too large for a row stand in files.
result_files = Table(
    "result_files",
    metadata,
    Column("job_seq", _Counter, ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True),
    Column("sha256", Text, nullable=False),  # names the file
    Column("size", BigInteger, nullable=False),
)
Index("ix_result_files_file", result_files.c.sha256)

# Programs that a tenant uploaded and may name in a submission. Their bytes stand in files.
uploads = Table(
    "uploads",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("sha256", Text, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
Index("ix_uploads_file", uploads.c.sha256)
Index("ix_uploads_expiry", uploads.c.expires_at)

calibrations = Table(
    "calibrations",
    metadata,
    Column("sha256", Text, primary_key=True),  # of the bytes before encoding
    Column("size", BigInteger, nullable=False),  # bytes before encoding
    Column("encoding", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

# What the provider told of a job that has ended. Many jobs run under one calibration.
records = Table(
    "records",
    metadata,
    Column("job_seq", _Counter, ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True),
    Column("metrics", Text, nullable=False),  # a JSON object
    Column("calibration_sha256", Text, ForeignKey("calibrations.sha256")),
)
Index("ix_records_calibration", records.c.calibration_sha256)

# Jobs that have ended and whose record is yet to be made.
records_due = Table(
    "records_due",
    metadata,
    Column("job_seq", _Counter, ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True),
)

# Jobs that were sent more than once: until when the provider may turn out to have them twice.
twins_due = Table(
    "twins_due",
    metadata,
    Column("job_seq", _Counter, ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True),
    Column("until", BigInteger, nullable=False),
)

# An event outlives its job, so it does not refer to it. `document` is the job after the change.
events = Table(
    "events",
    metadata,
    Column("revision", _Counter, primary_key=True),
    Column("job_id", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("message", Text, nullable=False),
    Column("document", Text, nullable=False),
    sqlite_autoincrement=True,
)
Index("ix_events_job", events.c.job_id, events.c.revision)

# As with jobs, `document` is the whole session.
sessions = Table(
    "sessions",
    metadata,
    Column("seq", _Counter, primary_key=True),  # order of creation
    Column("id", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("backend", Text, nullable=False),
    Column("provider_session_id", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("document", Text, nullable=False),
    UniqueConstraint("id"),
    sqlite_autoincrement=True,
)
is_open_session = sessions.c.closed == false()
has_session_request_id = sessions.c.request_id != _EMPTY
_partial_index(
    "uq_sessions_request", sessions.c.tenant, sessions.c.request_id, where=has_session_request_id, unique=True
)
_partial_index("ix_sessions_open", sessions.c.seq, where=is_open_session)
Index("ix_sessions_tenant", sessions.c.tenant, sessions.c.seq)
Index("ix_sessions_provider", sessions.c.account, sessions.c.provider_session_id)

audit = Table(
    "audit",
    metadata,
    Column("sequence", _Counter, primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("caller", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("resource", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("peer", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("hash", Text, nullable=False, server_default=""),  # of the record and of the hash before it
    sqlite_autoincrement=True,
)
Index("ix_audit_resource", audit.c.resource, audit.c.sequence)
Index("ix_audit_tenant", audit.c.tenant, audit.c.sequence)

# Secrets of the gateway's own, drawn when the database is made, so that every gateway over it shares them.
api_keys = Table(
    "api_keys",
    metadata,
    Column("seq", _Counter, primary_key=True),
    *(Column(name, Text, nullable=False) for name in ("id", "display_name", "tenant", "role", "hash")),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("last_used_at", BigInteger),
    Column("revoked_at", BigInteger),
    UniqueConstraint("id"),
    sqlite_autoincrement=True,
)
Index("ix_api_keys_tenant", api_keys.c.tenant, api_keys.c.seq)

# What the jobs of a tenant, submitted on one day, have used: see `gateway.store.ledger`. Times are microseconds of QPU time.
_AMOUNTS = ("jobs", "pending", "reserved", "charged")
usage = Table(
    "usage",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("day", Integer, primary_key=True),  # days since 1970, UTC
    Column("account", Text, primary_key=True),
    *(Column(name, BigInteger, nullable=False) for name in _AMOUNTS),
    sqlite_with_rowid=False,
)
has_pending = usage.c.pending > literal_column("0")
Index("ix_usage_pending", usage.c.tenant, sqlite_where=has_pending, postgresql_where=has_pending)

usage_by_tag = Table(
    "usage_by_tag",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("tag", Text, primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("account", Text, primary_key=True),
    *(Column(name, BigInteger, nullable=False) for name in _AMOUNTS),
    sqlite_with_rowid=False,
)

keys = Table(
    "keys",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

# Named places in the order of the revisions. `compacted`: up to it, the history is no longer whole.
marks = Table(
    "marks",
    metadata,
    Column("name", Text, primary_key=True),
    Column("revision", BigInteger, nullable=False),
)

_DIALECT = sqlite.dialect(paramstyle="named")


def sql(statement: ClauseElement) -> str:
    """Return a statement as text for the driver, with its parameters as `:name`."""
    return str(statement.compile(dialect=_DIALECT))


def insert_sql(table: Table, *, numbered: bool = False) -> str:
    """Return the insertion of a row as text, with a parameter for each column, named after it.

    Args:
        table: Where to insert.
        numbered: Leave the first column out: the database numbers the row.
    """
    names = [column.name for column in table.columns][1 if numbered else 0 :]
    return str(insert(table).compile(dialect=_DIALECT, column_keys=names))

"""Jobs, their programs, results and tags, events, and the audit trail."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "programs",
        sa.Column("sha256", sa.Text, nullable=False),
        *_blob(),
        sa.PrimaryKeyConstraint("sha256", name="pk_programs"),
    )
    _create_jobs()
    op.create_table(
        "job_tags",
        *_texts("tag", "tenant"),
        sa.Column("job_seq", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(["job_seq"], ["jobs.seq"], name="fk_job_tags_job_seq", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tag", "tenant", "job_seq", name="pk_job_tags"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_job_tags_job", "job_tags", ["job_seq"])
    op.create_table(
        "results",
        _counter("job_seq"),
        *_blob(),
        sa.ForeignKeyConstraint(["job_seq"], ["jobs.seq"], name="fk_results_job_seq", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_seq", name="pk_results"),
    )
    op.create_table(
        "events",
        _counter("revision"),
        *_texts("job_id", "tenant", "type"),
        sa.Column("at", sa.BigInteger, nullable=False),
        *_texts("message", "document"),
        sa.PrimaryKeyConstraint("revision", name="pk_events"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_events_job", "events", ["job_id", "revision"])
    op.create_table(
        "audit",
        _counter("sequence"),
        sa.Column("at", sa.BigInteger, nullable=False),
        *_texts("caller", "tenant", "action", "resource", "outcome", "peer", "request_id"),
        sa.PrimaryKeyConstraint("sequence", name="pk_audit"),
        sqlite_autoincrement=True,
    )


def _create_jobs() -> None:
    op.create_table(
        "jobs",
        _counter("seq"),
        *_texts("id", "tenant", "account", "backend", "status"),
        sa.Column("final", sa.Boolean, nullable=False),
        *_texts("display_name", "session", "request_id", "provider_job_id", "program_sha256"),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        *_texts("document"),
        sa.PrimaryKeyConstraint("seq", name="pk_jobs"),
        sa.UniqueConstraint("id", name="uq_jobs_id"),
        sa.ForeignKeyConstraint(["program_sha256"], ["programs.sha256"], name="fk_jobs_program_sha256"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_program", "jobs", ["program_sha256"])
    op.create_index("ix_jobs_tenant", "jobs", ["tenant", "seq", "created_at", "status"])
    _create_partial_index("ix_jobs_provider", ["account", "provider_job_id"], sa.column("provider_job_id") != _EMPTY)
    _create_partial_index("uq_jobs_request", ["tenant", "request_id"], sa.column("request_id") != _EMPTY, unique=True)
    _create_partial_index("ix_jobs_unfinished_account", ["account", "seq"], sa.column("final") == sa.false())
    _create_partial_index("ix_jobs_unfinished_tenant", ["tenant", "seq"], sa.column("final") == sa.false())


_EMPTY: sa.ColumnElement[str] = sa.literal_column("''")


def _create_partial_index(
    name: str, columns: list[str], where: sa.ColumnElement[bool], *, unique: bool = False
) -> None:
    op.create_index(name, "jobs", columns, unique=unique, sqlite_where=where, postgresql_where=where)


def _counter(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False)


def _texts(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False) for name in names]


def _blob() -> tuple[sa.Column[int], sa.Column[str], sa.Column[bytes]]:
    return (
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("encoding", sa.Text, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
    )

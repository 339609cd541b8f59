"""Audit records are chained by hash."""

from __future__ import annotations

import hashlib

import orjson
import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_COLUMNS = ("sequence", "at", "caller", "tenant", "action", "resource", "outcome", "peer", "request_id")


def upgrade() -> None:
    """Number the records that there are without gaps, and chain them."""
    op.add_column("audit", sa.Column("hash", sa.Text, nullable=False, server_default=""))
    audit = sa.table("audit", sa.column("hash"), *(sa.column(name) for name in _COLUMNS))
    connection = op.get_bind()
    before = ""
    rows = connection.execute(sa.select(audit).order_by(audit.c.sequence)).mappings().all()
    for sequence, row in enumerate(rows, start=1):
        fields = [before, sequence, *(row[name] for name in _COLUMNS[1:])]
        before = hashlib.sha256(orjson.dumps(fields)).hexdigest()
        connection.execute(
            sa.update(audit).where(audit.c.sequence == row["sequence"]).values(sequence=sequence, hash=before)
        )
    if connection.dialect.name == "sqlite":
        connection.execute(sa.text("UPDATE sqlite_sequence SET seq = :seq WHERE name = 'audit'"), {"seq": len(rows)})
    op.create_index("ix_audit_resource", "audit", ["resource", "sequence"])
    op.create_index("ix_audit_tenant", "audit", ["tenant", "sequence"])

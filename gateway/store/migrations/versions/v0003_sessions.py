"""Sessions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "sessions",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("id", "tenant", "account", "backend", "provider_session_id", "request_id")
        ),
        sa.Column("closed", sa.Boolean, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_sessions"),
        sa.UniqueConstraint("id", name="uq_sessions_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_sessions_tenant", "sessions", ["tenant", "seq"])
    op.create_index("ix_sessions_provider", "sessions", ["account", "provider_session_id"])
    with_request_id = sa.column("request_id") != sa.literal_column("''")
    op.create_index(
        "uq_sessions_request",
        "sessions",
        ["tenant", "request_id"],
        unique=True,
        sqlite_where=with_request_id,
        postgresql_where=with_request_id,
    )
    is_open = sa.column("closed") == sa.false()
    op.create_index("ix_sessions_open", "sessions", ["seq"], sqlite_where=is_open, postgresql_where=is_open)

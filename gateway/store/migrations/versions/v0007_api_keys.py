"""API keys, and the key of their hashes."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table, and draw the key."""
    op.create_table(
        "api_keys",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("id", "display_name", "tenant", "role", "hash")),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.BigInteger) for name in ("expires_at", "last_used_at", "revoked_at")),
        sa.PrimaryKeyConstraint("seq", name="pk_api_keys"),
        sa.UniqueConstraint("id", name="uq_api_keys_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_api_keys_tenant", "api_keys", ["tenant", "seq"])
    keys = sa.table("keys", sa.column("name"), sa.column("value"))
    op.bulk_insert(keys, [{"name": "api_keys", "value": secrets.token_bytes(32)}])

"""The key that signs resume tokens, and the mark up to which the history is compacted."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, draw the key, and set the mark before everything."""
    keys = op.create_table(
        "keys",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_keys"),
    )
    marks = op.create_table(
        "marks",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_marks"),
    )
    op.bulk_insert(keys, [{"name": "resume_tokens", "value": secrets.token_bytes(32)}])
    op.bulk_insert(marks, [{"name": "compacted", "revision": 0}])

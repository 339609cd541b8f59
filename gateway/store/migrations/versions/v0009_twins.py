"""Jobs that their provider may turn out to have twice."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "twins_due",
        sa.Column("job_seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(["job_seq"], ["jobs.seq"], name="fk_twins_due_job_seq", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_seq", name="pk_twins_due"),
    )

"""Results in files, and uploaded programs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "result_files",
        sa.Column("job_seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(["job_seq"], ["jobs.seq"], name="fk_result_files_job_seq", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_seq", name="pk_result_files"),
    )
    op.create_index("ix_result_files_file", "result_files", ["sha256"])
    op.create_table(
        "uploads",
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "sha256", name="pk_uploads"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_uploads_file", "uploads", ["sha256"])
    op.create_index("ix_uploads_expiry", "uploads", ["expires_at"])

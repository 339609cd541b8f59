"""Records of runs: metrics and calibration."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "calibrations",
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("encoding", sa.Text, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_calibrations"),
    )
    op.create_table(
        "records",
        _job_seq(),
        sa.Column("metrics", sa.Text, nullable=False),
        sa.Column("calibration_sha256", sa.Text, nullable=True),
        sa.ForeignKeyConstraint(["job_seq"], ["jobs.seq"], name="fk_records_job_seq", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["calibration_sha256"], ["calibrations.sha256"], name="fk_records_calibration_sha256"),
        sa.PrimaryKeyConstraint("job_seq", name="pk_records"),
    )
    op.create_index("ix_records_calibration", "records", ["calibration_sha256"])
    op.create_table(
        "records_due",
        _job_seq(),
        sa.ForeignKeyConstraint(["job_seq"], ["jobs.seq"], name="fk_records_due_job_seq", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_seq", name="pk_records_due"),
    )


def _job_seq() -> sa.Column[int]:
    return sa.Column("job_seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False)

"""What tenants use, by day, account and tag."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_AMOUNTS = ("jobs", "pending", "reserved", "charged")
_COUNTS = "j.created_at / 86400000000 AS day, j.account, count(*), sum(NOT j.final), 0, 0 FROM jobs j"  # microseconds of a day


def upgrade() -> None:
    """Create the tables, and count the jobs that there are. What they cost was not in any budget."""
    for name, keys in (("usage", ("tenant",)), ("usage_by_tag", ("tenant", "tag"))):
        op.create_table(
            name,
            *(sa.Column(key, sa.Text, nullable=False) for key in keys),
            sa.Column("day", sa.Integer, nullable=False),
            sa.Column("account", sa.Text, nullable=False),
            *(sa.Column(amount, sa.BigInteger, nullable=False) for amount in _AMOUNTS),
            sa.PrimaryKeyConstraint(*keys, "day", "account", name=f"pk_{name}"),
            sqlite_with_rowid=False,
        )
    where = sa.text("pending > 0")
    op.create_index("ix_usage_pending", "usage", ["tenant"], sqlite_where=where, postgresql_where=where)
    op.execute(f"INSERT INTO usage SELECT j.tenant, {_COUNTS} GROUP BY 1, 2, 3")
    op.execute(
        f"INSERT INTO usage_by_tag SELECT j.tenant, t.tag, {_COUNTS} JOIN job_tags t ON t.job_seq = j.seq GROUP BY 1, 2, 3, 4"
    )

"""
Calendars of customers, adjustments of their accounts, and what the ledger refuses.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables, and the index from which spend is summed."""
    op.create_table(
        "customer_calendar",
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("zone", sa.Text(), nullable=False),
        sa.Column("anchor_day", sa.Integer(), nullable=False),
        sa.Column("previous_zone", sa.Text(), nullable=True),
        sa.Column("previous_anchor_day", sa.Integer(), nullable=True),
        sa.Column("changed_at_us", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "anchor_day BETWEEN 1 AND 31", name=op.f("ck_customer_calendar_anchor_day")
        ),
        sa.CheckConstraint(
            "previous_anchor_day BETWEEN 1 AND 31",
            name=op.f("ck_customer_calendar_previous_anchor_day"),
        ),
        sa.CheckConstraint(
            "(previous_zone IS NULL) = (changed_at_us IS NULL)"
            " AND (previous_anchor_day IS NULL) = (changed_at_us IS NULL)",
            name=op.f("ck_customer_calendar_change"),
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customer.id"], name=op.f("fk_customer_calendar_customer_id")
        ),
        sa.PrimaryKeyConstraint("customer_id", name=op.f("pk_customer_calendar")),
    )
    op.create_table(
        "adjustment",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("starts_at_us", sa.BigInteger(), nullable=True),
        sa.Column("ends_at_us", sa.BigInteger(), nullable=True),
        sa.Column("posted_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("credit_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "period IN ('day', 'week', 'month', 'lifetime')", name=op.f("ck_adjustment_period")
        ),
        sa.CheckConstraint(
            "(starts_at_us IS NULL) = (period = 'lifetime')"
            " AND (ends_at_us IS NULL) = (period = 'lifetime')",
            name=op.f("ck_adjustment_window"),
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customer.id"], name=op.f("fk_adjustment_customer_id")
        ),
        sa.ForeignKeyConstraint(
            ["request_id"], ["request.id"], name=op.f("fk_adjustment_request_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_adjustment")),
    )
    for column in ("customer_id", "ends_at_us", "request_id"):
        op.create_index(op.f(f"ix_adjustment_{column}"), "adjustment", [column], unique=False)
    op.create_table(
        "dead_letter",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("first_seen_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dead_letter")),
    )
    op.create_index(
        op.f("ix_request_spend"),
        "request",
        ["customer_id", "reserved_at_us", "state", "charge_nano_usd", "hold_nano_usd"],
        unique=False,
    )
    op.create_index(
        op.f("ix_request_expired"),
        "request",
        ["ended_at_us"],
        unique=False,
        sqlite_where=sa.text("state = 'expired'"),
        postgresql_where=sa.text("state = 'expired'"),
    )
    op.drop_index(op.f("ix_request_customer_id_reserved_at_us"), table_name="request")

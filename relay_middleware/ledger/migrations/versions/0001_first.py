"""
The first tables.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them, and the revision's one row."""
    op.create_table(
        "api_key",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("key_right", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at_us", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "(key_right = 'customer') = (customer_id IS NOT NULL)",
            name=op.f("ck_api_key_bound_to_a_customer"),
        ),
        sa.CheckConstraint(
            "key_right IN ('may-name-customers', 'customer', 'management')",
            name=op.f("ck_api_key_key_right"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("hash", name=op.f("uq_api_key_hash")),
    )
    op.create_table(
        "customer",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("status IN ('active', 'blocked')", name=op.f("ck_customer_status")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_customer")),
    )
    op.create_table(
        "operation",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operation")),
    )
    op.create_table(
        "revision",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_revision_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revision")),
    )
    op.create_table(
        "customer_override",
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("limit_nano_usd", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "period IN ('day', 'week', 'month', 'lifetime')",
            name=op.f("ck_customer_override_period"),
        ),
        sa.CheckConstraint("limit_nano_usd >= 0", name=op.f("ck_customer_override_limit")),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customer.id"], name=op.f("fk_customer_override_customer_id")
        ),
        sa.PrimaryKeyConstraint("customer_id", "period", name=op.f("pk_customer_override")),
    )
    op.create_table(
        "request",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("api_key_id", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=False),
        sa.Column("is_stream", sa.Boolean(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("deployment_model", sa.Text(), nullable=True),
        sa.Column("usage_source", sa.Text(), nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_1h_input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("audio_input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("audio_output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("service_tier", sa.Text(), nullable=True),
        sa.Column("cost_usd", sa.Text(), nullable=False),
        sa.Column("cost_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("charge_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("hold_nano_usd", sa.BigInteger(), nullable=False),
        sa.Column("is_bound_exact", sa.Boolean(), nullable=False),
        sa.Column("reserved_at_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_at_us", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "state IN ('settled', 'released', 'expired')", name=op.f("ck_request_state")
        ),
        sa.CheckConstraint(
            "usage_source IN ('provider', 'counted')", name=op.f("ck_request_usage_source")
        ),
        sa.CheckConstraint(
            "cost_nano_usd >= 0 AND charge_nano_usd >= 0", name=op.f("ck_request_amounts")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customer.id"], name=op.f("fk_request_customer_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_request")),
    )
    op.create_index(
        op.f("ix_request_customer_id_reserved_at_us"),
        "request",
        ["customer_id", "reserved_at_us"],
        unique=False,
    )
    op.create_table(
        "attempt",
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("deployment_id", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("deployment_model", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("started_at_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_at_us", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "outcome IN ('served', 'refused', 'failed', 'timed_out')",
            name=op.f("ck_attempt_outcome"),
        ),
        sa.ForeignKeyConstraint(["request_id"], ["request.id"], name=op.f("fk_attempt_request_id")),
        sa.PrimaryKeyConstraint("request_id", "number", name=op.f("pk_attempt")),
    )
    op.execute("INSERT INTO revision (id, number) VALUES (1, 0)")

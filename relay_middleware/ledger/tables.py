"""
The tables, as the newest migration leaves them.

Money is in whole nano-dollars, times in microseconds since 1970 UTC, so both databases count alike.
`request` and `attempt` are only ever appended to.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
)

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

CUSTOMER = Table(
    "customer",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("tier", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
    CheckConstraint("status IN ('active', 'blocked')", name="status"),
)

CUSTOMER_OVERRIDE = Table(
    "customer_override",
    METADATA,
    Column("customer_id", Text, ForeignKey("customer.id"), primary_key=True),
    Column("period", Text, primary_key=True),
    # NULL lifts the tier's limit.
    Column("limit_nano_usd", BigInteger),
    CheckConstraint("period IN ('day', 'week', 'month', 'lifetime')", name="period"),
    CheckConstraint("limit_nano_usd >= 0", name="limit"),
)

API_KEY = Table(
    "api_key",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("hash", Text, nullable=False, unique=True),
    Column("hint", Text, nullable=False),
    Column("key_right", Text, nullable=False),
    Column("customer_id", Text),
    Column("created_at_us", BigInteger, nullable=False),
    Column("revoked_at_us", BigInteger),
    CheckConstraint(
        "(key_right = 'customer') = (customer_id IS NOT NULL)", name="bound_to_a_customer"
    ),
    CheckConstraint(
        "key_right IN ('may-name-customers', 'customer', 'management')", name="key_right"
    ),
)

OPERATION = Table(
    "operation",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("details", Text, nullable=False),
    Column("created_at_us", BigInteger, nullable=False),
)

REVISION = Table(
    "revision",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

REQUEST = Table(
    "request",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("customer_id", Text, ForeignKey("customer.id"), nullable=False),
    Column("api_key_id", Text, nullable=False),
    Column("tier", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("status_code", Integer, nullable=False),
    Column("is_stream", Boolean, nullable=False),
    Column("provider", Text),
    Column("deployment_model", Text),
    Column("usage_source", Text),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_input_tokens", BigInteger, nullable=False),
    Column("cache_write_input_tokens", BigInteger, nullable=False),
    Column("cache_write_1h_input_tokens", BigInteger, nullable=False),
    Column("audio_input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("audio_output_tokens", BigInteger, nullable=False),
    Column("service_tier", Text),
    # The exact decimal, from which the rounded cost can be recomputed.
    Column("cost_usd", Text, nullable=False),
    Column("cost_nano_usd", BigInteger, nullable=False),
    Column("charge_nano_usd", BigInteger, nullable=False),
    Column("hold_nano_usd", BigInteger, nullable=False),
    Column("is_bound_exact", Boolean, nullable=False),
    Column("reserved_at_us", BigInteger, nullable=False),
    Column("ended_at_us", BigInteger, nullable=False),
    CheckConstraint("state IN ('settled', 'released', 'expired')", name="state"),
    CheckConstraint("usage_source IN ('provider', 'counted')", name="usage_source"),
    CheckConstraint("cost_nano_usd >= 0 AND charge_nano_usd >= 0", name="amounts"),
    Index(None, "customer_id", "reserved_at_us"),
)

ATTEMPT = Table(
    "attempt",
    METADATA,
    Column("request_id", Text, ForeignKey("request.id"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("deployment_id", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("deployment_model", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("status_code", Integer),
    Column("started_at_us", BigInteger, nullable=False),
    Column("ended_at_us", BigInteger, nullable=False),
    CheckConstraint("outcome IN ('served', 'refused', 'failed', 'timed_out')", name="outcome"),
)

WORKER = Table(
    "worker",
    METADATA,
    Column("id", Text, primary_key=True),
    # When it last said that it lives.
    Column("seen_at_us", BigInteger, nullable=False),
    # JSON: see `workers.py`, which alone writes and reads it.
    Column("deployments", Text, nullable=False),
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_us(at: datetime) -> int:
    """Return the aware instant *at* in whole microseconds since 1970 UTC, exactly."""
    return (at - _EPOCH) // timedelta(microseconds=1)


def from_us(us: int) -> datetime:
    """Return the instant, aware and in UTC: the inverse of `to_us`."""
    return _EPOCH + timedelta(microseconds=us)

"""
The tables, as the newest migration leaves them.

Money is in whole nano-dollars, times in microseconds since 1970 UTC, so both databases count alike.
`request`, `attempt` and `adjustment` are only ever appended to, but for a request that expired: the
row of how it ended replaces its row.
"""

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
    text,
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

# Of customers whose periods are not those of UTC, or were others before.
CUSTOMER_CALENDAR = Table(
    "customer_calendar",
    METADATA,
    Column("customer_id", Text, ForeignKey("customer.id"), primary_key=True),
    Column("zone", Text, nullable=False),
    Column("anchor_day", Integer, nullable=False),
    # What it replaced, and when.
    Column("previous_zone", Text),
    Column("previous_anchor_day", Integer),
    Column("changed_at_us", BigInteger),
    CheckConstraint("anchor_day BETWEEN 1 AND 31", name="anchor_day"),
    CheckConstraint("previous_anchor_day BETWEEN 1 AND 31", name="previous_anchor_day"),
    CheckConstraint(
        "(previous_zone IS NULL) = (changed_at_us IS NULL)"
        " AND (previous_anchor_day IS NULL) = (changed_at_us IS NULL)",
        name="change",
    ),
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
    # Asked for one by one: in SQLite the migration 0006 says why.
    CheckConstraint("state = 'settled' OR state = 'released' OR state = 'expired'", name="state"),
    CheckConstraint(
        "usage_source = 'provider' OR usage_source = 'counted' OR usage_source = 'bound'",
        name="usage_source",
    ),
    CheckConstraint("cost_nano_usd >= 0 AND charge_nano_usd >= 0", name="amounts"),
    # All that the sums of spend need: they read the index and no row.
    Index(
        "ix_request_spend",
        "customer_id",
        "reserved_at_us",
        "state",
        "charge_nano_usd",
        "hold_nano_usd",
    ),
    # Few of many, asked for once a minute.
    Index(
        "ix_request_expired",
        "ended_at_us",
        sqlite_where=text("state = 'expired'"),
        postgresql_where=text("state = 'expired'"),
    ),
)

USAGE_HOUR = Table(
    "usage_hour",
    METADATA,
    Column("customer_id", Text, primary_key=True),
    # Since 1970 UTC, of when the requests were reserved.
    Column("hour", BigInteger, primary_key=True, autoincrement=False),
    # Of settled requests, and of expired ones what was set aside. Kept by the database itself, with
    # every row of `request` that comes, changes or goes.
    Column("requests", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cost_nano_usd", BigInteger, nullable=False),
    Column("charge_nano_usd", BigInteger, nullable=False),
    Column("expired_nano_usd", BigInteger, nullable=False),
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
    CheckConstraint(
        "outcome = 'served' OR outcome = 'refused' OR outcome = 'failed' OR outcome = 'timed_out'"
        " OR outcome = 'cancelled'",
        name="outcome",
    ),
)

ADJUSTMENT = Table(
    "adjustment",
    METADATA,
    # Of the operation, and of the period where it has several.
    Column("id", Text, primary_key=True),
    Column("customer_id", Text, ForeignKey("customer.id"), nullable=False),
    # The window of the one account it is for; a lifetime has no start and no end.
    Column("period", Text, nullable=False),
    Column("starts_at_us", BigInteger),
    Column("ends_at_us", BigInteger),
    Column("posted_nano_usd", BigInteger, nullable=False),
    Column("credit_nano_usd", BigInteger, nullable=False),
    # Of which it takes back a part.
    Column("request_id", Text, ForeignKey("request.id")),
    Column("note", Text),
    Column("created_at_us", BigInteger, nullable=False),
    CheckConstraint("period IN ('day', 'week', 'month', 'lifetime')", name="period"),
    CheckConstraint(
        "(starts_at_us IS NULL) = (period = 'lifetime')"
        " AND (ends_at_us IS NULL) = (period = 'lifetime')",
        name="window",
    ),
    Index(None, "customer_id"),
    Index(None, "ends_at_us"),
    Index(None, "request_id"),
)

# What the ledger refuses for good, for a correction by hand.
DEAD_LETTER = Table(
    "dead_letter",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("source", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("first_seen_us", BigInteger, nullable=False),
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

"""
What customers used, summed by hour: a report on a million requests reads some hundred rows.

The database keeps the sums itself, with each request that comes, changes or goes, whoever writes
it: they cannot disagree with the rows. Workers of the release before need not know.
"""

# ruff: noqa: S608 - the parts of its statements are names and numbers of its own
import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_US_PER_HOUR = 3_600_000_000

_SUMS = {
    "requests": "CASE WHEN {row}state = 'settled' THEN 1 ELSE 0 END",
    "input_tokens": "CASE WHEN {row}state = 'settled' THEN {row}input_tokens ELSE 0 END",
    "output_tokens": "CASE WHEN {row}state = 'settled' THEN {row}output_tokens ELSE 0 END",
    "cost_nano_usd": "CASE WHEN {row}state = 'settled' THEN {row}cost_nano_usd ELSE 0 END",
    "charge_nano_usd": "CASE WHEN {row}state = 'settled' THEN {row}charge_nano_usd ELSE 0 END",
    "expired_nano_usd": "CASE WHEN {row}state = 'expired' THEN {row}hold_nano_usd ELSE 0 END",
}
"""Columns of the sums, and what a row of `request` adds to each. A released one adds nothing."""

_COLUMNS = ", ".join(_SUMS)

_ADDED = "ON CONFLICT (customer_id, hour) DO UPDATE SET " + ", ".join(
    f"{name} = usage_hour.{name} + excluded.{name}" for name in _SUMS
)


def upgrade() -> None:
    """Make the table, fill it from what is there, and have the database keep it."""
    op.create_table(
        "usage_hour",
        sa.Column("customer_id", sa.Text(), nullable=False),
        sa.Column("hour", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _SUMS),
        sa.PrimaryKeyConstraint("customer_id", "hour", name=op.f("pk_usage_hour")),
    )
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    if not is_sqlite:
        # Nobody writes between the filling and the triggers.
        op.execute("LOCK TABLE request IN SHARE ROW EXCLUSIVE MODE")
    sums = ", ".join(f"CAST(SUM({sum_.format(row='')}) AS BIGINT)" for sum_ in _SUMS.values())
    op.execute(
        f"INSERT INTO usage_hour (customer_id, hour, {_COLUMNS})"
        f" SELECT customer_id, reserved_at_us / {_US_PER_HOUR}, {sums} FROM request"
        f" GROUP BY customer_id, reserved_at_us / {_US_PER_HOUR}"
    )
    if is_sqlite:
        _in_sqlite()
    else:
        _in_postgresql()


def _adding(row: str) -> str:
    """Return the statement that adds what *row* is, `NEW.`, to its hour."""
    values = ", ".join(sum_.format(row=row) for sum_ in _SUMS.values())
    return (
        f"INSERT INTO usage_hour (customer_id, hour, {_COLUMNS})"
        f" VALUES ({row}customer_id, {row}reserved_at_us / {_US_PER_HOUR}, {values}) {_ADDED}"
    )


def _subtracting(row: str) -> str:
    """Return the statement that takes what *row* was, `OLD.`, from its hour."""
    sums = ", ".join(f"{name} = {name} - ({sum_.format(row=row)})" for name, sum_ in _SUMS.items())
    return (
        f"UPDATE usage_hour SET {sums} WHERE customer_id = {row}customer_id"
        f" AND hour = {row}reserved_at_us / {_US_PER_HOUR}"
    )


def _in_sqlite() -> None:
    add, subtract = _adding("NEW."), _subtracting("OLD.")
    for event, steps in (("INSERT", [add]), ("UPDATE", [subtract, add]), ("DELETE", [subtract])):
        body = " ".join(f"{step};" for step in steps)
        name = f"usage_{event.lower()}"
        op.execute(f"CREATE TRIGGER {name} AFTER {event} ON request BEGIN {body} END")


def _in_postgresql() -> None:
    # For each statement at once: many updates of one row in one transaction take ever longer.
    for event, tables in (
        ("INSERT", {"NEW": "added"}),
        ("UPDATE", {"NEW": "added", "OLD": "removed"}),
        ("DELETE", {"OLD": "removed"}),
    ):
        name = f"usage_{event.lower()}"
        changes = " UNION ALL ".join(map(_changes, tables.values()))
        sums = ", ".join(f"CAST(SUM({column}) AS BIGINT)" for column in _SUMS)
        op.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" INSERT INTO usage_hour (customer_id, hour, {_COLUMNS})"
            f" SELECT customer_id, hour, {sums} FROM ({changes}) AS change"
            f" GROUP BY customer_id, hour ORDER BY customer_id, hour {_ADDED};"
            " RETURN NULL; END $$"
        )
        told = " ".join(f"{kind} TABLE AS {table}" for kind, table in tables.items())
        op.execute(
            f"CREATE TRIGGER {name} AFTER {event} ON request REFERENCING {told}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {name}()"
        )


def _changes(table: str) -> str:
    """Return what selects how much the rows of *table* add, or take away."""
    sign = "-" if table == "removed" else ""
    sums = ", ".join(f"{sign}({sum_.format(row='')}) AS {name}" for name, sum_ in _SUMS.items())
    return f"SELECT customer_id, reserved_at_us / {_US_PER_HOUR} AS hour, {sums} FROM {table}"

"""
More words: what is charged at most, and attempts that were given up.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_CHANGES = (
    ("request", "usage_source", "('provider', 'counted')", "('provider', 'counted', 'bound')"),
    (
        "attempt",
        "outcome",
        "('served', 'refused', 'failed', 'timed_out')",
        "('served', 'refused', 'failed', 'timed_out', 'cancelled')",
    ),
)
"""Table, column, and the words that it may have: before and now."""


def upgrade() -> None:
    """Let the two columns have a word more."""
    change = _in_sqlite if op.get_bind().dialect.name == "sqlite" else _in_postgresql
    for table, column, before, now in _CHANGES:
        change(table, column, before, now)


def _in_postgresql(table: str, column: str, _: str, now: str) -> None:
    name = op.f(f"ck_{table}_{column}")
    op.drop_constraint(name, table, type_="check")
    op.create_check_constraint(name, table, f"{column} IN {now}")


def _in_sqlite(table: str, column: str, before: str, now: str) -> None:
    """
    Write the words into the schema, which leaves all rows where they are.

    Its way for changes that touch no row: SQLite, "ALTER TABLE", "Making Other Kinds Of Table
    Schema Changes". To copy the tables would take long, and they refer to each other.
    """
    connection = op.get_bind()
    version = connection.execute(sa.text("PRAGMA schema_version")).scalar_one()
    connection.execute(sa.text("PRAGMA writable_schema=ON"))
    connection.execute(
        sa.text(
            "UPDATE sqlite_master SET sql = replace(sql, :before, :now)"
            " WHERE type = 'table' AND name = :table"
        ),
        {"before": f"{column} IN {before}", "now": f"{column} IN {now}", "table": table},
    )
    # Other connections, and this one, read the schema anew.
    connection.execute(sa.text(f"PRAGMA schema_version={version + 1}"))
    connection.execute(sa.text("PRAGMA writable_schema=OFF"))

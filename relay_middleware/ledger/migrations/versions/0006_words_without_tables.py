"""
The same words, asked for one by one: SQLite makes a table in memory for `IN` with three or more,
anew for each row, and a request with its attempt had three of them (4 of 14 µs, measured).
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_WORDS = (
    ("request", "state", ("settled", "released", "expired")),
    ("request", "usage_source", ("provider", "counted", "bound")),
    ("attempt", "outcome", ("served", "refused", "failed", "timed_out", "cancelled")),
)
"""Table, column, and the words that it may have."""


def upgrade() -> None:
    """Write SQLite's constraints otherwise; PostgreSQL makes no table of them."""
    if op.get_bind().dialect.name == "sqlite":
        for table, column, words in _WORDS:
            _write_otherwise(table, column, words)


def _write_otherwise(table: str, column: str, words: tuple[str, ...]) -> None:
    """Write into the schema, as in 0004, which leaves all rows where they are."""
    listed = ", ".join(f"'{word}'" for word in words)
    one_by_one = " OR ".join(f"{column} = '{word}'" for word in words)
    connection = op.get_bind()
    version = connection.execute(sa.text("PRAGMA schema_version")).scalar_one()
    connection.execute(sa.text("PRAGMA writable_schema=ON"))
    connection.execute(
        sa.text(
            "UPDATE sqlite_master SET sql = replace(sql, :before, :now)"
            " WHERE type = 'table' AND name = :table"
        ),
        {"before": f"{column} IN ({listed})", "now": one_by_one, "table": table},
    )
    # Other connections, and this one, read the schema anew.
    connection.execute(sa.text(f"PRAGMA schema_version={version + 1}"))
    connection.execute(sa.text("PRAGMA writable_schema=OFF"))

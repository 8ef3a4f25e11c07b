"""
What the command line prints: tables for people, JSON for programs.
"""

from collections.abc import Mapping, Sequence

import orjson

Row = Mapping[str, str | int | None]
"""A line of a report by column; None is left empty."""


_UNITS = ("_usd", "_tokens", "requests")


def to_table(rows: Sequence[Row], columns: Mapping[str, str]) -> str:
    """
    Return *rows* as an aligned table.

    Args:
        columns: Heading by key, in their order. A key that ends in the unit of a number stands
            right.
    """
    lines = [list(columns.values())]
    lines += [[_cell(row.get(key)) for key in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if key.endswith(_UNITS) else cell.ljust(width)
            for key, cell, width in zip(columns, line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def to_json(value: object) -> str:
    """Return *value* as indented JSON."""
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _cell(value: str | int | None) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else value

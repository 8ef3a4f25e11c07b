"""
Tables and JSON that the command line prints.
"""

import json

from proxy_app.tables import to_json, to_table


def test_table_is_aligned() -> None:
    """Text stands left, numbers right with their thousands apart, and nothing trails."""
    rows = [
        {"customer": "cust_abc", "requests": 12000, "left_usd": "49.5"},
        {"customer": "c", "requests": 3, "left_usd": None},
    ]

    table = to_table(rows, {"customer": "CUSTOMER", "requests": "REQUESTS", "left_usd": "LEFT"})

    assert table.splitlines() == [
        "CUSTOMER  REQUESTS  LEFT",
        "cust_abc    12,000  49.5",
        "c                3",
    ]


def test_table_without_rows() -> None:
    """Without rows there is the heading."""
    assert to_table([], {"a": "A", "b": "BC"}) == "A  BC"


def test_json_is_what_it_was() -> None:
    """JSON for programs holds the value itself."""
    assert json.loads(to_json([{"a": 1, "b": None}])) == [{"a": 1, "b": None}]

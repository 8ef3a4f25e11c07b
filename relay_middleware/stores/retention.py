"""
Retention: how long a store remembers what nobody needs any more, whichever store it is.
"""

KEPT_AFTER_END_S = 600
"""Of a hold that the ledger has, or need not have: for a command that is repeated late."""

KEPT_AFTER_WINDOW_S = 40 * 86_400
"""Of an account, after its period's end: for settles and corrections that come late. An expired
hold is kept as long."""

"""
Retention: how long a store remembers what nobody needs any more, whichever store it is.
"""

KEPT_AFTER_END_S = 600
"""Of a hold that the ledger has, or need not have: for a command that is repeated late."""

KEPT_IN_PROCESS_S = 10
"""The same where the only process that can repeat a command is the store's own: it repeats none
that it knows to be in the ledger, and was in the middle of it at most. Each hold takes some 310
bytes (measured): a minute of them at 2,500 requests a second would be 46 MB."""

KEPT_AFTER_WINDOW_S = 40 * 86_400
"""Of an account, after its period's end: for settles and corrections that come late. An expired
hold is kept as long."""

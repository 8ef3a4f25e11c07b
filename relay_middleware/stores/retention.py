"""
Retention: how long a store remembers what nobody needs any more, whichever store it is.
"""

KEPT_AFTER_END_S = 600
"""Of a hold that the ledger has, or need not have: for a command that is repeated late."""

KEPT_IN_PROCESS_S = 60
"""The same where the only process that can repeat a command is the store's own: it does so within
seconds. Each hold takes some 580 bytes (measured): ten minutes of them at 1,700 requests a second
would be 590 MB."""

KEPT_AFTER_WINDOW_S = 40 * 86_400
"""Of an account, after its period's end: for settles and corrections that come late. An expired
hold is kept as long."""

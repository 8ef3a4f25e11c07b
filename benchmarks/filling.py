"""
Much of everything, written at once into the stores that Relay uses.
"""

import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.instants import to_us
from relay_middleware.core.periods import Period, window_of, windows_of
from relay_middleware.stores.keys import Keys

COMMANDS_AT_ONCE = 10_000

_ROWS = """
WITH RECURSIVE number(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM number WHERE n < :last)
INSERT INTO request (
  id, customer_id, api_key_id, tier, endpoint, model, state, status_code, is_stream, provider,
  deployment_model, usage_source, input_tokens, cached_input_tokens, cache_write_input_tokens,
  cache_write_1h_input_tokens, audio_input_tokens, output_tokens, reasoning_tokens,
  audio_output_tokens, cost_usd, cost_nano_usd, charge_nano_usd, hold_nano_usd, is_bound_exact,
  reserved_at_us, ended_at_us
)
SELECT
  printf('filled-%08d', n), CASE WHEN n % 10 = 0 THEN 'c0' ELSE printf('c%d', n % :customers) END,
  'key_filled', 'pro', 'chat.completions', 'smart', 'settled', 200, 0, 'openai', 'gpt-4o-mini',
  'provider', 9, 0, 0, 0, 0, 9, 0, 0, '0.00000675', 6750, 8100, 100000, 0,
  :at_us + n * :step_us, :at_us + n * :step_us
FROM number
"""


def fill_rows(database_path: Path, count: int, *, customers: int) -> None:
    """
    Write *count* settled requests into a ledger, spread over what has passed of this month: every
    tenth of `c0`, the others of all *customers*, `c0` and so on, in turn.
    """
    now = datetime.now(UTC)
    at_us = window_of(Period.MONTH, now).starts_at_us or 0
    step_us = (to_us(now) - at_us) // count
    values = {"last": count - 1, "customers": customers, "at_us": at_us, "step_us": step_us}
    with closing(sqlite3.connect(database_path)) as ledger, ledger:
        ledger.execute(_ROWS, values)


def fill_accounts(port: int, prefix: str, count: int) -> float:
    """
    Write the accounts of the customers `c0` and so on into Redis, those of today, of this week and
    month, and the lifetime's; return how many seconds it took.
    """
    began_s = time.monotonic()
    commands = _accounts(Keys(prefix), count)
    with socket.create_connection(("127.0.0.1", port)) as client, client.makefile("rb") as replies:
        while some := list(islice(commands, COMMANDS_AT_ONCE)):
            client.sendall(b"".join(some))
            for _ in some:
                reply = replies.readline()
                assert reply.startswith(b":"), reply
    return time.monotonic() - began_s


def _accounts(keys: Keys, count: int) -> Iterator[bytes]:
    windows = windows_of(datetime.now(UTC))
    for number in range(count):
        customer_id = CustomerId(f"c{number}")
        for window in windows:
            name = keys.account(customer_id, window).encode()
            yield (
                b"*6\r\n$4\r\nHSET\r\n$%d\r\n%b\r\n$4\r\nheld\r\n$1\r\n0\r\n$6\r\nposted\r\n"
                b"$4\r\n8100\r\n" % (len(name), name)
            )

"""
Key names: one slot for each script, no two things with one name.
"""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.periods import Period, window_of, windows_of
from relay_middleware.stores.keys import account_key, bucket_of, hold_key, open_holds_key

AT = datetime(2026, 11, 23, tzinfo=UTC)
IDS = st.from_regex(r"\A[A-Za-z0-9._:@|+=/-]{1,30}\Z").map(CustomerId)


def test_buckets_never_change() -> None:
    """
    A customer's bucket is where its money is: CRC-32 modulo 64 (of "123456789" 0xCBF43926, the
    standard's check value, so 0x26).
    """
    assert bucket_of(CustomerId("123456789")) == 0x26


def test_names() -> None:
    """
    The names are as documented; November 2026 begins at 1793491200.
    """
    alice = CustomerId("alice")

    assert account_key(alice, window_of(Period.MONTH, AT)) == "relay:{07}:a:alice:month:1793491200"
    assert account_key(alice, window_of(Period.LIFETIME, AT)) == "relay:{07}:a:alice:lifetime"
    assert hold_key(alice, HoldId("h1")) == "relay:{07}:h:h1"
    assert open_holds_key(alice) == "relay:{07}:open"


@given(IDS)
def test_a_script_touches_one_slot(customer_id: CustomerId) -> None:
    """
    All keys that any script gets for a customer are in one slot of a cluster.
    """
    keys = [
        hold_key(customer_id, HoldId("h")),
        open_holds_key(customer_id),
        *(account_key(customer_id, window) for window in windows_of(AT)),
    ]

    assert len({key_slot(key.encode()) for key in keys}) == 1


@given(st.sets(IDS, min_size=2, max_size=8))
def test_accounts_never_share_a_name(customer_ids: set[CustomerId]) -> None:
    """
    Different customers and periods have different keys, whatever colons an id has.
    """
    keys = {account_key(each, window) for each in customer_ids for window in windows_of(AT)}

    assert len(keys) == 4 * len(customer_ids)

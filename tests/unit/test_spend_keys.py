"""
Key names: one slot for each script, no two things with one name.
"""

from datetime import UTC, datetime

from fixtures.spend import hold
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from relay_middleware.core.identifiers import CustomerId, HoldId
from relay_middleware.core.periods import Period, window_of, windows_of
from relay_middleware.core.rates import RequestLimit, TokenLimit
from relay_middleware.stores.keys import Keys, bucket_of

AT = datetime(2026, 11, 23, tzinfo=UTC)
PER_MINUTE = TokenLimit("1/minute", 1, 60)
PER_HOUR = RequestLimit("1/hour", 1, 3600)
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
    keys = Keys()

    assert keys.account(alice, window_of(Period.MONTH, AT)) == "relay:{07}:a:alice:month:1793491200"
    assert keys.account(alice, window_of(Period.LIFETIME, AT)) == "relay:{07}:a:alice:lifetime"
    assert keys.hold(7, HoldId("h1")) == "relay:{07}:h:h1"
    assert keys.open_holds(7) == "relay:{07}:open"
    assert keys.places(alice) == "relay:{07}:p:alice"
    assert keys.tokens(alice, PER_MINUTE) == "relay:{07}:t:alice:60"
    assert keys.requests(alice, PER_HOUR) == "relay:{07}:r:alice:3600"
    assert keys.adjustment(alice, "op") == "relay:{07}:o:op:alice"
    assert (keys.epoch(7), keys.journal(7)) == ("relay:{07}:epoch", "relay:{07}:j")
    assert (keys.claim("fill"), keys.rates) == ("relay:{00}:claim:fill", "relay:rates")
    assert Keys("other").epoch(7) == "other:{07}:epoch"


def test_the_keys_of_a_hold_are_those_of_its_parts() -> None:
    """
    Beside its own name: open holds, places, epoch, journal, then the accounts, then the token
    windows, then those of requests.
    """
    keys, held = Keys("other"), hold(token_limits=(PER_MINUTE,))

    assert keys.beside_hold(held, [PER_HOUR]) == [
        keys.open_holds(7),
        keys.places(held.customer_id),
        keys.epoch(7),
        keys.journal(7),
        *(keys.account(held.customer_id, account.window) for account in held.accounts),
        keys.tokens(held.customer_id, PER_MINUTE),
        keys.requests(held.customer_id, PER_HOUR),
    ]


@given(IDS)
def test_a_script_touches_one_slot(customer_id: CustomerId) -> None:
    """
    All keys that any script gets for a customer are in one slot of a cluster.
    """
    keys, bucket = Keys(), bucket_of(customer_id)
    names = [
        keys.hold(bucket, HoldId("h")),
        keys.open_holds(bucket),
        keys.places(customer_id),
        keys.tokens(customer_id, PER_MINUTE),
        keys.requests(customer_id, PER_HOUR),
        keys.adjustment(customer_id, "op"),
        keys.epoch(bucket),
        keys.journal(bucket),
        keys.filling(bucket),
        *(keys.account(customer_id, window) for window in windows_of(AT)),
    ]

    assert len({key_slot(name.encode()) for name in names}) == 1


@given(st.sets(IDS, min_size=2, max_size=8))
def test_customers_never_share_a_name(customer_ids: set[CustomerId]) -> None:
    """
    Different customers and periods have different keys, whatever colons an id has.
    """
    keys = Keys()
    names = {keys.account(each, window) for each in customer_ids for window in windows_of(AT)}
    counts = {keys.tokens(each, PER_MINUTE) for each in customer_ids}
    counts |= {keys.requests(each, PER_HOUR) for each in customer_ids}

    assert len(names) == 4 * len(customer_ids)
    assert len(counts) == 2 * len(customer_ids)

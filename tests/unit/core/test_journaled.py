"""
Journaled: what is written down of holds and records is read back as it was, or refused.
"""

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import orjson
import pytest
from fixtures.holds import hold_of
from fixtures.journaled_values import HOLDS, RECORDS
from fixtures.records import AT, attempt, ended
from hypothesis import given
from hypothesis import strategies as st

from relay_middleware.core.holds import Hold
from relay_middleware.core.journaled import (
    JournaledError,
    Members,
    decode_hold,
    decode_record,
    encode_hold,
    encode_record,
)
from relay_middleware.core.records import AttemptOutcome, RequestEnded

HOLD = hold_of("r1")
RECORD = ended(attempts=(attempt(AttemptOutcome.SERVED, 200),))

READERS: list[Callable[[bytes], object]] = [json.loads, orjson.loads]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(hold=HOLDS)
def test_every_hold_comes_back(hold: Hold) -> None:
    """
    A hold that went through JSON is equal to what it was in every value, whoever reads the JSON.
    """
    text = orjson.dumps(encode_hold(hold))

    assert [decode_hold(read(text)) for read in READERS] == [hold, hold]


@given(record=RECORDS)
def test_every_record_comes_back(record: RequestEnded) -> None:
    """
    A record that went through JSON is equal to what it was in every value, whoever reads the JSON.
    """
    text = orjson.dumps(encode_record(record))

    assert [decode_record(read(text)) for read in READERS] == [record, record]


def test_a_cost_keeps_its_digits() -> None:
    """
    A cost of 0.10 comes back as 0.10, and not as 0.1, which is equal but not the same text.
    """
    record = replace(RECORD, cost_usd=Decimal("0.10"))

    assert str(decode_record(encode_record(record)).cost_usd) == "0.10"


def test_instants_are_microseconds() -> None:
    """
    12:00:00.000001 of 23 November 2026 UTC is 1,795,435,200,000,001 microseconds after 1970.
    """
    members = encode_record(replace(RECORD, ended_at=AT.replace(microsecond=1)))

    assert members[20] == 1_795_435_200_000_001
    assert decode_record(members).ended_at == datetime(2026, 11, 23, 12, 0, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, 2, "hold of version 2: this release reads 1"),
        (0, "1", "hold, value 1: int expected, not str"),
        (1, None, "hold, value 2: str expected, not NoneType"),
        (3, 1.0, "hold, value 4: int expected, not float"),
        (3, True, "hold, value 4: int expected, not bool"),
        (4, {}, "hold, value 5: list expected, not dict"),
        (4, [7], "account is a list, not int"),
        (4, [["day", None, None]], "account does not have 3 values"),
        (4, [["year", None, None, None]], "account, value 1: 'year' is no Period"),
        (4, [["day", 10**18, None, None]], "account, value 2: 1000000000000000000 is no instant"),
        (5, "60", "hold, value 6: float expected, not str"),
        (10, 1, "hold, value 11: bool expected, not int"),
        (14, [["9/minute", 9, 60, 0]], "token limit does not have 4 values"),
    ],
)
def test_a_broken_hold_is_refused(place: int, value: object, message: str) -> None:
    """
    A value that is none of a hold's is refused with its place, and so is another version.
    """
    members = encode_hold(HOLD)
    members[place] = value

    with pytest.raises(JournaledError, match=message):
        decode_hold(members)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, 0, "record of version 0"),
        (7, "lost", "record, value 8: 'lost' is no HoldState"),
        (12, [1, 2], "usage does not have 2 values"),
        (12, 3, "record, value 13: list expected, not int"),
        (13, "guessed", "record, value 14: 'guessed' is no UsageSource"),
        (14, "cheap", "record, value 15: 'cheap' is no decimal"),
        (14, "NaN", "record, value 15: NaN is no amount"),
        (14, 0.1, "record, value 15: str expected, not float"),
        (21, [[]], "attempt does not have 0 values"),
    ],
)
def test_a_broken_record_is_refused(place: int, value: object, message: str) -> None:
    """
    A value that is none of a record's is refused with its place, and so is another version.
    """
    members = encode_record(RECORD)
    members[place] = value

    with pytest.raises(JournaledError, match=message):
        decode_record(members)


@pytest.mark.parametrize(
    ("decode", "members"),
    [(decode_hold, encode_hold(HOLD)), (decode_record, encode_record(RECORD))],
    ids=["hold", "record"],
)
def test_a_value_too_many_or_too_few_is_refused(
    decode: Callable[[object], object], members: Members
) -> None:
    """
    A list is refused when it is one value longer than it must be, when shorter, and when empty.
    """
    for broken in ([*members, None], members[:-1], []):
        with pytest.raises(JournaledError, match=f"does not have {len(broken)} values"):
            decode(broken)


@pytest.mark.parametrize("decode", [decode_hold, decode_record])
@given(members=JSON)
def test_nothing_else_is_read(decode: Callable[[object], object], members: object) -> None:
    """
    Whatever JSON holds that was not made here is refused, and with no other error.
    """
    with pytest.raises(JournaledError):
        decode(members)


@given(place=st.integers(0, 15), value=JSON)
def test_a_changed_hold_is_refused_or_another_hold(place: int, value: object) -> None:
    """
    With any one value replaced by any other, what comes out is a hold or a `JournaledError`.
    """
    members = encode_hold(HOLD)
    members[place] = value

    with contextlib.suppress(JournaledError):
        assert isinstance(decode_hold(members), Hold)


@given(place=st.integers(0, 21), value=JSON)
def test_a_changed_record_is_refused_or_another_record(place: int, value: object) -> None:
    """
    With any one value replaced by any other, what comes out is a record or a `JournaledError`.
    """
    members = encode_record(RECORD)
    members[place] = value

    with contextlib.suppress(JournaledError):
        assert isinstance(decode_record(members), RequestEnded)

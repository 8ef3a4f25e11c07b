"""
Terms: what scripts are told of a customer's limits, the same while those are.
"""

from dataclasses import replace

import pytest
from fixtures.spend import hold

from relay_middleware.core.identifiers import CustomerId
from relay_middleware.core.rates import TokenLimit
from relay_middleware.stores import terms
from relay_middleware.stores.keys import Keys
from relay_middleware.stores.terms import KnownTerms

RATES = ("20/minute",)
HELD = hold(token_limits=(TokenLimit("40/minute", 40, 60),))


def test_terms_are_made_once() -> None:
    """
    The next hold of a customer, and the end of either, have the same terms; with another limit of
    any kind they are others, and those of before come back with it.
    """
    known = KnownTerms(Keys())
    first = known.of(HELD, RATES)
    others = [
        replace(HELD, token_limits=()),
        replace(HELD, max_concurrency=3),
        replace(HELD, accounts=HELD.accounts[:1]),
    ]

    assert known.of(replace(HELD, amount_nano_usd=5), RATES) is first
    assert known.of_ending(HELD) is first
    for other in others:
        assert known.of_ending(other) != first
        assert known.of(other, RATES) != first
        assert known.of_ending(HELD).ending_names == first.ending_names
    assert known.of(HELD, ()).rates == []
    assert known.of(HELD, RATES) == first


def test_only_some_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    With room for one customer, those of the one before are made again, to the same.
    """
    monkeypatch.setattr(terms, "MAX_REMEMBERED", 1)
    known = KnownTerms(Keys())
    first = known.of(HELD, RATES)
    known.of(replace(HELD, customer_id=CustomerId("bob")), RATES)

    again = known.of(HELD, RATES)

    assert again == first
    assert again is not first

"""
What the calls of one request of a host come to.
"""

from fixtures.records import receipt

from relay_middleware.core.totals import Totals, totals_headers


def test_calls_add_up() -> None:
    """
    Two answers of 25 and 13 tokens for 11,550 and 1 nano-dollars come to 50 and 26 tokens and
    0.0011551 cents; what is left is what the last one said.
    """
    totals = Totals().plus(receipt()).plus(receipt(charge=1, remaining=70_000_000))

    assert totals_headers(totals) == [
        (b"x-relay-customer", b"cust_abc123"),
        (b"x-relay-calls", b"2"),
        (b"x-relay-cost-cents", b"0.0011551"),
        (b"x-relay-input-tokens", b"50"),
        (b"x-relay-output-tokens", b"26"),
        (b"x-relay-spend-remaining-cents", b"7"),
    ]


def test_no_call_no_header() -> None:
    """
    A page without a call stays what it is.
    """
    assert totals_headers(Totals()) == []

"""
Annotation: the cost of an answer, exact in body and headers.
"""

import json
from decimal import Decimal

import pytest
from fixtures.records import receipt
from hypothesis import given
from hypothesis import strategies as st

from relay_middleware.core import annotation
from relay_middleware.core.annotation import Receipt
from relay_middleware.core.rates import RateStatus, TokenLimit, TokenWindow


def decoded(members: bytes) -> dict[str, object]:
    value = json.loads(b"{" + members + b"}", parse_float=Decimal)
    assert isinstance(value, dict)
    return value


def test_members() -> None:
    """
    11,550 nano-dollars are 0.001155 cents, and every fact stands beside it.
    """
    assert decoded(annotation.to_members(receipt(), encode)) == {
        "cost_cents": Decimal("0.001155"),
        "relay": {
            "request_id": "req_1",
            "customer_id": "cust_abc123",
            "tier": "free",
            "model": "smart",
            "provider": "openai",
            "deployment_model": "gpt-4o-mini",
            "attempts": 1,
            "input_tokens": 25,
            "output_tokens": 13,
            "cached_input_tokens": 4,
            "charge_nano_usd": 11_550,
            "provider_cost_nano_usd": 10_500,
            "usage_source": "provider",
            "spend_remaining_cents": Decimal("49998.845"),
        },
    }


def test_what_may_not_be_told_is_absent() -> None:
    """
    The operator's cost and an unknown remainder are left out, not null.
    """
    relay = decoded(annotation.to_members(receipt(cost=None, remaining=None), encode))["relay"]

    assert isinstance(relay, dict)
    assert not {"provider_cost_nano_usd", "spend_remaining_cents", "is_priced"} & relay.keys()


def test_unpriced_is_said() -> None:
    """
    An answer of a model without a price says so: its cost of 0 is not known to be 0.
    """
    unpriced = annotation.to_members(
        Receipt(
            **{name: getattr(receipt(), name) for name in Receipt.__slots__ if name != "is_priced"},
            is_priced=False,
        ),
        encode,
    )

    assert b'"is_priced":false' in unpriced


@given(st.integers(min_value=0, max_value=2**53 - 1))
def test_amounts_are_exact(charge: int) -> None:
    """
    The printed cents are the integer, to the last nano-dollar.
    """
    members = decoded(annotation.to_members(receipt(charge=charge), encode))

    assert Decimal(str(members["cost_cents"])) * 10_000_000 == charge


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a":1}', b'{"a":1,"b":2}'),
        (b'{"a": 1 }\n', b'{"a": 1,"b":2}'),
        (b"{}", b'{"b":2}'),
        (b"{ }", b'{"b":2}'),
    ],
)
def test_splice_keeps_the_bytes(body: bytes, expected: bytes) -> None:
    """
    Members go before the last brace, and what stands before them is unchanged.
    """
    assert annotation.splice(body, b'"b":2') == expected


def encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def test_answer_with_its_usage_keeps_its_bytes() -> None:
    """
    A provider's own spacing and number forms survive.
    """
    data = b'{"x": 1.50, "usage": {"prompt_tokens": 1}}'

    out = annotation.annotated(
        data, json.loads(data), usage={"prompt_tokens": 1}, added=b'"b":2', encode=encode
    )

    assert out == b'{"x": 1.50, "usage": {"prompt_tokens": 1},"b":2}'


@pytest.mark.parametrize("data", [b'{"x":1}', b'{"x":1,"usage":null}', b'{"x":1,"relay":7}'])
def test_answer_without_its_usage_gets_it(data: bytes) -> None:
    """
    A missing usage is added, a null one replaced, another Relay's annotation dropped.
    """
    out = annotation.annotated(
        data, json.loads(data), usage={"prompt_tokens": 1}, added=b'"b":2', encode=encode
    )

    assert out == b'{"x":1,"usage":{"prompt_tokens":1},"b":2}'


def test_headers() -> None:
    """
    The headers of a whole answer tell what the body tells.
    """
    assert dict(annotation.to_headers(receipt())) == {
        b"x-request-id": b"req_1",
        b"x-relay-customer": b"cust_abc123",
        b"x-relay-model": b"smart",
        b"x-relay-provider": b"openai",
        b"x-relay-attempts": b"1",
        b"x-relay-cost-cents": b"0.001155",
        b"x-relay-input-tokens": b"25",
        b"x-relay-output-tokens": b"13",
        b"x-relay-spend-remaining-cents": b"49998.845",
    }


def test_headers_leave_out_what_is_not_known() -> None:
    """
    A refused request may have neither customer nor model, an unlimited customer no remainder.
    """
    assert annotation.opening_headers("req_1", None, None) == [(b"x-request-id", b"req_1")]
    assert annotation.remaining_headers(None) == []


def test_dropped_parameters_are_named() -> None:
    """
    What the provider was not told stands in one header, and nothing dropped means no header.
    """
    assert annotation.dropped_headers(["seed", "logit_bias"]) == [
        (b"x-relay-dropped-parameters", b"seed,logit_bias")
    ]
    assert annotation.dropped_headers([]) == []


def test_model_name_cannot_break_a_header() -> None:
    """
    A line end or a letter outside ASCII in a configured name is escaped.
    """
    assert annotation.opening_headers("r", None, "é\r\nx: y")[1][1] == rb"\xe9\r\nx: y"


def rate(limit: int, remaining: int, reset_after_s: float) -> RateStatus:
    return RateStatus(
        limit=f"{limit}/minute",
        limit_requests=limit,
        remaining_requests=remaining,
        reset_after_s=reset_after_s,
    )


def test_rate_headers_show_the_tightest() -> None:
    """
    Of several rates the one with the least left is shown; of none, none.
    """
    headers = dict(annotation.rate_headers([rate(20, 5, 30.0), rate(500, 3, 86_400.0)]))

    assert headers == {
        b"x-ratelimit-limit-requests": b"500",
        b"x-ratelimit-remaining-requests": b"3",
        b"x-ratelimit-reset-requests": b"24h0m0s",
    }
    assert annotation.rate_headers([]) == []


def test_token_headers_show_the_tightest() -> None:
    """
    450 of 1000 a minute are less than 600 of 800 a day; all 1000 are there again in 1 min 45 s.
    """
    window = TokenWindow(previous_tokens=600, current_tokens=100, elapsed_ms=15_000)
    minute = window.status(TokenLimit("1000/minute", 1000, 60))
    day = TokenWindow(previous_tokens=0, current_tokens=200, elapsed_ms=0).status(
        TokenLimit("800/day", 800, 86_400)
    )

    headers = dict(annotation.token_headers([day, minute]))

    assert headers == {
        b"x-ratelimit-limit-tokens": b"1000",
        b"x-ratelimit-remaining-tokens": b"450",
        b"x-ratelimit-reset-tokens": b"1m45s",
    }
    assert annotation.token_headers([]) == []


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0ms"), (0.0115, "12ms"), (1, "1s"), (59.2, "1m0s"), (360, "6m0s"), (3600, "1h0m0s")],
)
def test_durations_as_openai_prints_them(seconds: float, expected: str) -> None:
    """
    Milliseconds below a second, rounded up; then seconds, minutes, hours.
    """
    assert annotation.format_duration(seconds) == expected

"""
Refusals: status, code and words of every no.
"""

from datetime import UTC, datetime

import pytest

from relay_middleware.core import limit_refusals, refusals
from relay_middleware.core.holds import Account, Balance
from relay_middleware.core.money import NanoUsd
from relay_middleware.core.periods import Period, window_of
from relay_middleware.core.rates import TokenLimit, TokenWindow
from relay_middleware.core.refusals import Refusal

AT = datetime(2026, 11, 23, tzinfo=UTC)
MONTH = Account(window=window_of(Period.MONTH, AT), limit_nano_usd=NanoUsd(5_000_000_000))
LIFETIME = Account(window=window_of(Period.LIFETIME, AT), limit_nano_usd=NanoUsd(1_000_000_000))
BALANCE = Balance(
    posted_nano_usd=NanoUsd(4_995_000_000),
    held_nano_usd=NanoUsd(2_000_000),
    credit_nano_usd=NanoUsd(0),
    expired_nano_usd=NanoUsd(0),
)
ASKED = NanoUsd(12_000_000)
PER_MINUTE = TokenLimit("1000/minute", 1000, 60)
# 545 of 1000 count; for 800 more 100 of the 600 may, which is so 50 s into the minute.
STATUS = TokenWindow(previous_tokens=600, current_tokens=100, elapsed_ms=15_500).status(
    PER_MINUTE, wanted_tokens=800
)

ALL = [
    (refusals.invalid_request("wrong"), 400, "invalid_value"),
    (refusals.customer_required("X-Customer-Id"), 400, "customer_required"),
    (refusals.customer_required_of_host("X-Customer-Id"), 400, "customer_required"),
    (refusals.invalid_customer_id("No."), 400, "invalid_customer_id"),
    (limit_refusals.model_not_priced("m"), 400, "model_not_priced"),
    (limit_refusals.cannot_be_bounded("It", "tools"), 400, "cannot_be_bounded"),
    (refusals.invalid_api_key(is_missing=True), 401, "invalid_api_key"),
    (refusals.invalid_api_key(is_missing=False), 401, "invalid_api_key"),
    (limit_refusals.spend_limit_exceeded(MONTH, BALANCE, ASKED), 402, "spend_limit_exceeded"),
    (
        limit_refusals.request_exceeds_limit(MONTH, BALANCE, ASKED, largest_cap_tokens=7),
        402,
        "request_exceeds_limit",
    ),
    (
        limit_refusals.in_flight_budget_exhausted(MONTH, BALANCE, ASKED),
        429,
        "in_flight_budget_exhausted",
    ),
    (refusals.customer_forbidden(None), 403, "customer_forbidden"),
    (refusals.customer_forbidden("alice"), 403, "customer_forbidden"),
    (refusals.unknown_customer("bob"), 403, "unknown_customer"),
    (refusals.customer_blocked("bob"), 403, "customer_blocked"),
    (refusals.model_not_allowed("m", "free"), 403, "model_not_allowed"),
    (refusals.model_not_found("m"), 404, "model_not_found"),
    (refusals.unknown_path("GET", "x", "there is y"), 404, "unknown_url"),
    (refusals.method_not_allowed("GET", "x", "POST"), 405, "method_not_allowed"),
    (refusals.body_timeout(30.0), 408, "body_timeout"),
    (refusals.body_too_large(10), 413, "body_too_large"),
    (refusals.unsupported_content_encoding("gzip"), 415, "unsupported_content_encoding"),
    (limit_refusals.rate_limit_exceeded("20/minute", 1.5), 429, "rate_limit_exceeded"),
    (limit_refusals.token_limit_exceeded(STATUS, 800), 429, "rate_limit_exceeded"),
    (limit_refusals.concurrency_limit_exceeded(4, 4), 429, "rate_limit_exceeded"),
    (
        limit_refusals.request_exceeds_token_limit(PER_MINUTE, 1001, largest_cap_tokens=7),
        400,
        "request_exceeds_token_limit",
    ),
    (limit_refusals.too_many_new_customers(2.0), 429, "too_many_new_customers"),
    (refusals.tier_not_configured("gone"), 500, "tier_not_configured"),
    (refusals.internal_error(), 500, "internal_error"),
    (refusals.upstream_error(), 502, "upstream_error"),
    (refusals.answer_too_long(), 502, "answer_too_long"),
    (refusals.upstream_interrupted(), 502, "upstream_error"),
    (refusals.no_deployment_available(3.2), 503, "no_deployment_available"),
    (refusals.enforcement_unavailable(), 503, "enforcement_unavailable"),
    (refusals.upstream_timeout(), 504, "upstream_timeout"),
    (refusals.provider_refused(422, "no", code=None, param=None), 422, "provider_refused"),
    (refusals.provider_refused(400, "no", code="c", param="p"), 400, "c"),
]


@pytest.mark.parametrize(("refusal", "status_code", "code"), ALL)
def test_status_and_code(refusal: Refusal, status_code: int, code: str) -> None:
    """
    Each refusal has its status and code, in OpenAI's envelope with its four keys.
    """
    error = refusal.envelope()["error"]

    assert isinstance(error, dict)
    assert (refusal.status_code, error["code"]) == (status_code, code)
    assert {"message", "type", "param", "code"} <= error.keys()
    assert error["message"]


@pytest.mark.parametrize("refusal", [refusal for refusal, *_ in ALL])
def test_who_may_try_again(refusal: Refusal) -> None:
    """
    429 and 503 say when, 402 says never: openai-python would repeat otherwise, or not at all.
    """
    if refusal.status_code in {429, 503}:
        assert int(refusal.headers["retry-after"]) >= 1
    if refusal.status_code == 402:
        assert refusal.headers["x-should-retry"] == "false"


def test_money_refusal_names_the_numbers() -> None:
    """
    $0.012 asked, $4.995 of $5.00 a month spent, which begins anew on the first of December.
    """
    refusal = limit_refusals.spend_limit_exceeded(MONTH, BALANCE, ASKED)

    assert "$0.012" in refusal.message
    assert "$4.995 of the customer's $5.00/month limit is spent" in refusal.message
    assert "2026-12-01T00:00:00Z" in refusal.message
    assert refusal.metadata == {
        "period": "month",
        "limit_nano_usd": 5_000_000_000,
        "limit_cents": "500",
        "spent_nano_usd": 4_995_000_000,
        "held_nano_usd": 2_000_000,
        "requested_nano_usd": 12_000_000,
        "resets_at": "2026-12-01T00:00:00Z",
    }


def test_a_lifetime_limit_does_not_begin_anew() -> None:
    """
    A lifetime has no end to name.
    """
    refusal = limit_refusals.spend_limit_exceeded(LIFETIME, BALANCE, ASKED)

    assert "$1.00 lifetime limit" in refusal.message
    assert "The operator can raise the limit." in refusal.message
    assert refusal.metadata["resets_at"] is None


@pytest.mark.parametrize(("largest", "words"), [(7, "at most 7"), (0, "shorten the input")])
def test_remedy_of_a_request_that_can_never_fit(largest: int, words: str) -> None:
    """
    Where a lower cap would fit, the largest one is named; where none would, the input is.
    """
    refusal = limit_refusals.request_exceeds_limit(
        MONTH, BALANCE, ASKED, largest_cap_tokens=largest
    )

    assert words in refusal.message
    assert refusal.metadata["largest_output_cap_tokens"] == largest


def test_token_refusal_names_the_numbers() -> None:
    """
    800 tokens asked, 455 of 1000 a minute left, and 800 free in 34.5 s, which are 35 whole ones.
    """
    refusal = limit_refusals.token_limit_exceeded(STATUS, 800)

    assert refusal.type == "tokens"
    assert refusal.message == (
        "This request may take up to 800 tokens, and 455 of the customer's token limit of "
        "1000/minute are left. Repeat it in 35 s."
    )
    assert refusal.metadata == {
        "limit": "1000/minute",
        "limit_tokens": 1000,
        "requested_tokens": 800,
        "remaining_tokens": 455,
    }
    assert refusal.headers == {
        "retry-after": "35",
        "x-ratelimit-limit-tokens": "1000",
        "x-ratelimit-remaining-tokens": "455",
        "x-ratelimit-reset-tokens": "1m45s",
    }


@pytest.mark.parametrize(("largest", "words"), [(7, "at most 7"), (0, "shorten the input")])
def test_remedy_of_a_request_with_too_many_tokens(largest: int, words: str) -> None:
    """
    1001 tokens never fit 1000 a minute: waiting is of no use, a lower cap may be.
    """
    refusal = limit_refusals.request_exceeds_token_limit(
        PER_MINUTE, 1001, largest_cap_tokens=largest
    )

    assert "up to 1001 tokens, which can never fit the customer's token limit" in refusal.message
    assert words in refusal.message
    assert refusal.metadata == {
        "limit": "1000/minute",
        "limit_tokens": 1000,
        "requested_tokens": 1001,
        "largest_output_cap_tokens": largest,
    }
    assert refusal.headers == {"x-should-retry": "false"}


@pytest.mark.parametrize(
    ("most", "words"), [(1, "1 request is under way"), (4, "4 requests are under way")]
)
def test_concurrency_refusal(most: int, words: str) -> None:
    """
    Who has as many requests under way as it may is told how many, in OpenAI's vocabulary.
    """
    refusal = limit_refusals.concurrency_limit_exceeded(most, most)

    assert words in refusal.message
    assert f"which may have {most} at the same time" in refusal.message
    assert (refusal.type, refusal.headers) == ("requests", {"retry-after": "1"})
    assert refusal.metadata == {"limit": f"{most} at the same time", "running": most}


def test_what_cannot_be_checked_is_not_sent() -> None:
    """
    A 503 says that no provider was called, and to come again after a second.
    """
    refusal = refusals.enforcement_unavailable()

    assert "no provider was called. Nothing was charged. Repeat" in refusal.message
    assert refusal.headers["retry-after"] == "1"


def test_waits_are_rounded_up() -> None:
    """
    1.2 seconds are 2 whole ones: after 1 the request would be refused again.
    """
    assert limit_refusals.rate_limit_exceeded("1/minute", 1.2).headers["retry-after"] == "2"


def test_client_text_in_a_message_is_short_and_printable() -> None:
    """
    A name of 10,000 characters with line ends becomes a line of at most 82.
    """
    shown = refusals.shown("a\n" + "é" * 10_000)

    assert shown.startswith(r"'a\n\xe9")
    assert "\n" not in shown
    assert shown.endswith("...'")


def test_error_carries_its_refusal() -> None:
    """
    What is raised says in words what the client will read.
    """
    refusal = refusals.model_not_found("m")

    assert str(refusals.RefusedError(refusal)) == refusal.message

"""
Refusals by a limit: of money, of requests, of tokens, and of what money cannot be bounded for.
"""

from datetime import datetime

from relay_middleware.core.annotation import token_headers
from relay_middleware.core.holds import Account, Balance
from relay_middleware.core.money import MAX_REQUEST_NANO_USD, NanoUsd, format_cents, format_usd
from relay_middleware.core.periods import Period
from relay_middleware.core.rates import TokenLimit, TokenStatus
from relay_middleware.core.refusals import DO_NOT_RETRY, Refusal, retry_after, shown, whole_s


def model_not_priced(model: str) -> Refusal:
    """400: no price is known, so no spend limit could be kept."""
    return Refusal(
        status_code=400,
        code="model_not_priced",
        message=(
            f"The model {shown(model)} has no known price, and this customer has a spend limit. "
            "The operator can set one under prices in the configuration."
        ),
        param="model",
        headers=DO_NOT_RETRY,
    )


def cannot_be_bounded(what: str, param: str) -> Refusal:
    """400: the cost of this request has no upper bound that could be held."""
    return Refusal(
        status_code=400,
        code="cannot_be_bounded",
        message=(
            f"{what} has a cost that cannot be bounded beforehand, and this customer has a limit "
            "of spend or tokens. Leave it out, or use a customer without one."
        ),
        param=param,
        headers=DO_NOT_RETRY,
    )


def spend_limit_exceeded(account: Account, balance: Balance, asked: NanoUsd) -> Refusal:
    """402: settled spend alone leaves no room for the request."""
    return Refusal(
        status_code=402,
        code="spend_limit_exceeded",
        type="insufficient_quota",
        message=(
            f"This request may cost up to ${format_usd(asked)}, and {_spent(account, balance)}. "
            f"{_when_again(account)}"
        ),
        metadata=_limit_facts(account, balance, asked),
        headers=DO_NOT_RETRY,
    )


def request_exceeds_limit(
    account: Account, balance: Balance, asked: NanoUsd, *, largest_cap_tokens: int
) -> Refusal:
    """402: the request would not even fit an untouched limit."""
    return Refusal(
        status_code=402,
        code="request_exceeds_limit",
        type="insufficient_quota",
        message=(
            f"This request may cost up to ${format_usd(asked)}, which can never fit the "
            f"customer's {_limit_name(account)}. {_cap_remedy(largest_cap_tokens)}"
        ),
        metadata={
            **_limit_facts(account, balance, asked),
            "largest_output_cap_tokens": largest_cap_tokens,
        },
        headers=DO_NOT_RETRY,
    )


def request_too_costly(asked: NanoUsd, *, largest_cap_tokens: int) -> Refusal:
    """400: the request may cost more than is counted for a single one."""
    return Refusal(
        status_code=400,
        code="request_too_costly",
        message=(
            f"This request may cost up to ${format_usd(asked)}, which can never fit the "
            f"${format_usd(MAX_REQUEST_NANO_USD)} that a single one may cost. "
            f"{_cap_remedy(largest_cap_tokens)}"
        ),
        metadata={
            "requested_nano_usd": asked,
            "largest_output_cap_tokens": largest_cap_tokens,
        },
        headers=DO_NOT_RETRY,
    )


def in_flight_budget_exhausted(account: Account, balance: Balance, asked: NanoUsd) -> Refusal:
    """429: the request would fit once open holds have settled."""
    return Refusal(
        status_code=429,
        code="in_flight_budget_exhausted",
        type="insufficient_quota",
        message=(
            f"This request may cost up to ${format_usd(asked)}; requests under way hold "
            f"${format_usd(balance.held_nano_usd)} of the customer's {_limit_name(account)}. "
            "Repeat it when they have ended."
        ),
        metadata=_limit_facts(account, balance, asked),
        headers={**retry_after(1), "x-should-retry": "true"},
    )


def rate_limit_exceeded(limit: str, retry_after_s: float) -> Refusal:
    """429: the customer's rate of requests is used up."""
    return Refusal(
        status_code=429,
        code="rate_limit_exceeded",
        type="requests",
        message=(
            f"The customer's rate limit of {limit} is reached. "
            f"Repeat the request in {whole_s(retry_after_s)} s."
        ),
        metadata={"limit": limit},
        headers=retry_after(retry_after_s),
    )


def token_limit_exceeded(status: TokenStatus, asked_tokens: int) -> Refusal:
    """
    429: the customer's tokens are used up for now.

    Args:
        status: Of the limit that refuses, waiting for *asked_tokens*.
        asked_tokens: The most that the request can take, input and output together.
    """
    return Refusal(
        status_code=429,
        code="rate_limit_exceeded",
        type="tokens",
        message=(
            f"This request may take up to {asked_tokens} tokens, and {status.remaining_tokens} of "
            f"the customer's {_token_limit_name(status.limit)} are left. "
            f"Repeat it in {whole_s(status.retry_after_s)} s."
        ),
        metadata={
            **_token_facts(status.limit, asked_tokens),
            "remaining_tokens": status.remaining_tokens,
        },
        headers={**retry_after(status.retry_after_s), **_token_headers(status)},
    )


def request_exceeds_token_limit(
    limit: TokenLimit, asked_tokens: int, *, largest_cap_tokens: int
) -> Refusal:
    """400: the request would not even fit when no tokens are used."""
    return Refusal(
        status_code=400,
        code="request_exceeds_token_limit",
        message=(
            f"This request may take up to {asked_tokens} tokens, which can never fit the "
            f"customer's {_token_limit_name(limit)}. {_cap_remedy(largest_cap_tokens)}"
        ),
        metadata={
            **_token_facts(limit, asked_tokens),
            "largest_output_cap_tokens": largest_cap_tokens,
        },
        headers=DO_NOT_RETRY,
    )


def concurrency_limit_exceeded(max_concurrency: int, running: int) -> Refusal:
    """
    429: as many requests of the customer are running as may.

    Its type is `requests`, because that is what there are too many of: OpenAI's own types of a rate
    limit are `requests` and `tokens`, and clients know no other.
    """
    are = "request is" if running == 1 else "requests are"
    return Refusal(
        status_code=429,
        code="rate_limit_exceeded",
        type="requests",
        message=(
            f"{running} {are} under way for this customer, which may have {max_concurrency} at the "
            "same time. Repeat this one when one of them has ended."
        ),
        metadata={"limit": f"{max_concurrency} at the same time", "running": running},
        # Nobody knows when one of them ends.
        headers=retry_after(1),
    )


def too_many_new_customers(retry_after_s: float) -> Refusal:
    """429: one key names new customers faster than anyone gains them."""
    return Refusal(
        status_code=429,
        code="too_many_new_customers",
        type="requests",
        message="This key has named too many new customers within a minute.",
        headers=retry_after(retry_after_s),
    )


def _cap_remedy(largest_cap_tokens: int) -> str:
    if largest_cap_tokens > 0:
        return f"With max_completion_tokens of at most {largest_cap_tokens} it would."
    return "No output cap makes it fit: shorten the input."


def _token_headers(status: TokenStatus) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in token_headers([status])}


def _token_limit_name(limit: TokenLimit) -> str:
    return f"token limit of {limit.notation}"


def _token_facts(limit: TokenLimit, asked_tokens: int) -> dict[str, object]:
    return {
        "limit": limit.notation,
        "limit_tokens": limit.limit_tokens,
        "requested_tokens": asked_tokens,
    }


def _limit_name(account: Account) -> str:
    limit = format_usd(account.limit_nano_usd or NanoUsd(0))
    period = account.window.period
    return (
        f"${limit} lifetime limit"
        if period is Period.LIFETIME
        else f"${limit}/{period.value} limit"
    )


def _spent(account: Account, balance: Balance) -> str:
    posted = format_usd(balance.posted_nano_usd)
    return f"${posted} of the customer's {_limit_name(account)} is spent"


def _when_again(account: Account) -> str:
    ends_at = account.window.ends_at
    if ends_at is None:
        return "The operator can raise the limit."
    return f"The limit begins anew at {_iso(ends_at)}."


def _limit_facts(account: Account, balance: Balance, asked: NanoUsd) -> dict[str, object]:
    ends_at = account.window.ends_at
    return {
        "period": account.window.period.value,
        "limit_nano_usd": account.limit_nano_usd,
        "limit_cents": format_cents(account.limit_nano_usd or NanoUsd(0)),
        "spent_nano_usd": balance.posted_nano_usd,
        "held_nano_usd": balance.held_nano_usd,
        "requested_nano_usd": asked,
        "resets_at": None if ends_at is None else _iso(ends_at),
    }


def _iso(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")

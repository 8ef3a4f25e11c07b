"""
From records to rows.
"""

from collections.abc import Mapping

from relay_middleware.core.instants import to_us
from relay_middleware.core.records import CustomerCreated, RequestEnded
from relay_middleware.core.tiers import CustomerStatus
from relay_middleware.core.usage import Usage

Row = Mapping[str, object]

_NOTHING_USED = Usage(input_tokens=0, output_tokens=0)


def customer_row(record: CustomerCreated | RequestEnded) -> Row:
    """Return the row of the customer that *record* is about, as it is when it is first seen."""
    seen_at = record.created_at if isinstance(record, CustomerCreated) else record.reserved_at
    return {
        "id": record.customer_id,
        "tier": record.tier,
        "status": CustomerStatus.ACTIVE.value,
        "created_at_us": to_us(seen_at),
    }


def request_row(record: RequestEnded) -> Row:
    """Return the row of a request."""
    usage = record.usage or _NOTHING_USED
    return {
        "id": record.hold_id,
        "customer_id": record.customer_id,
        "api_key_id": record.api_key_id,
        "tier": record.tier,
        "endpoint": record.endpoint,
        "model": record.model,
        "state": record.state.value,
        "status_code": record.status_code,
        "is_stream": record.is_stream,
        "provider": record.provider,
        "deployment_model": record.deployment_model,
        "usage_source": None if record.usage_source is None else record.usage_source.value,
        "input_tokens": usage.input_tokens,
        "cached_input_tokens": usage.cached_input_tokens,
        "cache_write_input_tokens": usage.cache_write_input_tokens,
        "cache_write_1h_input_tokens": usage.cache_write_1h_input_tokens,
        "audio_input_tokens": usage.audio_input_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "audio_output_tokens": usage.audio_output_tokens,
        "service_tier": usage.service_tier,
        "cost_usd": format(record.cost_usd, "f"),
        "cost_nano_usd": record.cost_nano_usd,
        "charge_nano_usd": record.charge_nano_usd,
        "hold_nano_usd": record.hold_nano_usd,
        "is_bound_exact": record.is_bound_exact,
        "reserved_at_us": to_us(record.reserved_at),
        "ended_at_us": to_us(record.ended_at),
    }


def attempt_rows(record: RequestEnded) -> list[Row]:
    """Return the rows of a request's attempts, numbered from 1."""
    return [
        {
            "request_id": record.hold_id,
            "number": number,
            "deployment_id": attempt.deployment_id,
            "provider": attempt.provider,
            "deployment_model": attempt.deployment_model,
            "outcome": attempt.outcome.value,
            "status_code": attempt.status_code,
            "started_at_us": to_us(attempt.started_at),
            "ended_at_us": to_us(attempt.ended_at),
        }
        for number, attempt in enumerate(record.attempts, start=1)
    ]

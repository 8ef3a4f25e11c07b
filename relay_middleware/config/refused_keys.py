"""
Keys that Relay does not take, and what to do instead.

Nothing is accepted and ignored: a key of a later feature, or one that LiteLLM's proxy knows, is
refused with the reason.
"""

from collections.abc import Mapping

from pydantic import BaseModel

from relay_middleware.config.mistakes import KeyPath, nearest
from relay_middleware.config.schema import (
    CustomersSection,
    MarginSection,
    ModelSection,
    ParamsSection,
    PriceSection,
    RouterSection,
    Settings,
    SpendLimitSection,
    TierSection,
    TimeoutsSection,
)

ANY = "*"
"""Stands for any item of a sequence, and any key that the operator chooses."""

_SECTIONS: Mapping[tuple[str, ...], type[BaseModel]] = {
    (): Settings,
    ("model_list", ANY): ModelSection,
    ("model_list", ANY, "litellm_params"): ParamsSection,
    ("model_list", ANY, "timeouts"): TimeoutsSection,
    ("router_settings",): RouterSection,
    ("tiers", ANY): TierSection,
    ("tiers", ANY, "spend_limits", ANY): SpendLimitSection,
    ("tiers", ANY, "margin"): MarginSection,
    ("customers",): CustomersSection,
    ("timeouts",): TimeoutsSection,
    ("prices", ANY): PriceSection,
}

_NOT_BUILT = "is not built yet, so it would limit nothing; remove it"

_REASONS: Mapping[tuple[str, ...], Mapping[str, str]] = {
    (): {
        "litellm_settings": "LiteLLM's global settings do not reach the calls that Relay makes; "
        "remove it, and see router_settings, timeouts and tiers for what there is",
        "general_settings": "belongs to LiteLLM's proxy; remove it: keys are made with 'relay keys "
        "create', the database is database_url, budgets are spend_limits of a tier",
        "environment_variables": "is not read; set them in the environment of the process",
    },
    ("model_list", ANY): {
        "model_info": "is not read; remove it: prices go into litellm_params or prices",
    },
    ("model_list", ANY, "litellm_params"): {
        "timeout": "set timeouts.non_stream_s beside litellm_params",
        "stream_timeout": "set timeouts.first_event_s beside litellm_params",
        "rpm": "is not read; give deployments a weight, and tiers rate_limits",
        "tpm": "is not read; give deployments a weight",
    },
    ("router_settings",): {
        "num_retries": "Relay never repeats a call at the same deployment; list a second one under "
        "the same model_name, or a fallback",
        "retry_after": "Relay never repeats a call at the same deployment; remove it",
        "stream_timeout": "set timeouts.first_event_s",
        "redis_url": "set redis_url at the top",
        "redis_host": "set redis_url at the top",
        "model_group_alias": "list the deployments under the second model_name too",
        "default_fallbacks": "name the fallbacks of each model under fallbacks",
        "context_window_fallbacks": _NOT_BUILT,
        "content_policy_fallbacks": _NOT_BUILT,
    },
    ("tiers", ANY): dict.fromkeys(
        (
            "token_limits",
            "max_concurrency",
            "on_disconnect",
            "on_outage",
        ),
        _NOT_BUILT,
    ),
}


def why_refused(path: KeyPath) -> str:
    """Say why the key at the end of *path* is refused, and what to do."""
    key = str(path[-1])
    section = _section(path[:-1])
    if reason := _REASONS.get(section, {}).get(key):
        return reason
    known = set(_SECTIONS[section].model_fields) if section in _SECTIONS else set[str]()
    if section == ("router_settings",):
        return f"Relay does not honour this setting of LiteLLM; it honours {_listed(known)}"
    return f"is no key here; {nearest(key, known)}"


def _section(path: KeyPath) -> tuple[str, ...]:
    return next(
        (
            pattern
            for pattern in _SECTIONS
            if len(pattern) == len(path)
            and all(want in (ANY, part) for want, part in zip(pattern, path, strict=True))
        ),
        tuple(str(part) for part in path),
    )


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))

"""
Keys that Relay does not take, and what to do instead.

Nothing is accepted and ignored: a key of a later feature, or one that LiteLLM's proxy knows, is
refused with the reason.
"""

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from relay_middleware.config import litellm_keys
from relay_middleware.config.mistakes import KeyPath, Mistake, nearest
from relay_middleware.config.schema import (
    CustomersSection,
    MarginSection,
    ModelInfoSection,
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

SECTIONS: Mapping[tuple[str, ...], type[BaseModel]] = {
    (): Settings,
    ("model_list", ANY): ModelSection,
    ("model_list", ANY, "litellm_params"): ParamsSection,
    ("model_list", ANY, "model_info"): ModelInfoSection,
    ("model_list", ANY, "timeouts"): TimeoutsSection,
    ("router_settings",): RouterSection,
    ("tiers", ANY): TierSection,
    ("tiers", ANY, "spend_limits", ANY): SpendLimitSection,
    ("tiers", ANY, "margin"): MarginSection,
    ("customers",): CustomersSection,
    ("timeouts",): TimeoutsSection,
    ("prices", ANY): PriceSection,
}
"""The mappings of the file, by where they stand."""

_NOT_BUILT = "is not built yet, so it would limit nothing; remove it"

_REASONS: Mapping[tuple[str, ...], Mapping[str, str]] = {
    (): litellm_keys.SECTIONS,
    ("model_list", ANY): litellm_keys.MODEL,
    ("model_list", ANY, "litellm_params"): litellm_keys.PARAMS,
    ("model_list", ANY, "model_info"): litellm_keys.MODEL_INFO,
    ("router_settings",): litellm_keys.ROUTER,
    ("tiers", ANY): dict.fromkeys(
        ("token_limits", "max_concurrency", "on_disconnect", "on_outage"), _NOT_BUILT
    ),
}


def refused(path: KeyPath, value: object) -> Iterator[Mistake]:
    """
    Say why the key at the end of *path* is refused, and what to do; of LiteLLM's sections of
    settings, whose *value* is a mapping, key by key.
    """
    reasons = litellm_keys.SETTINGS.get(str(path[0])) if len(path) == 1 else None
    if reasons is None or not isinstance(value, Mapping) or not value:
        yield Mistake(path, _why_refused(path))
        return
    for key in value:
        yield Mistake((*path, key), reasons.get(key, litellm_keys.SECTIONS[str(path[0])]))


def _why_refused(path: KeyPath) -> str:
    key = str(path[-1])
    section = _section(path[:-1])
    if reason := _REASONS.get(section, {}).get(key):
        return reason
    known = set(SECTIONS[section].model_fields) if section in SECTIONS else set[str]()
    if section == ("router_settings",):
        return f"Relay does not honour this setting of LiteLLM; it honours {_listed(known)}"
    if section == ("model_list", ANY, "model_info"):
        return f"is not read; Relay reads {_listed(known)}: remove it"
    return f"is no key here; {nearest(key, known)}"


def _section(path: KeyPath) -> tuple[str, ...]:
    return next(
        (
            pattern
            for pattern in SECTIONS
            if len(pattern) == len(path)
            and all(want in (ANY, part) for want, part in zip(pattern, path, strict=True))
        ),
        tuple(str(part) for part in path),
    )


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names))

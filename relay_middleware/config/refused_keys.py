"""
Keys that Relay does not take, and what to do instead.

Nothing is accepted and ignored: a key of a later feature, or one that LiteLLM's proxy knows, is
refused with the reason.
"""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches

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

_TYPO = 0.85
"""How alike two keys are of which one is the other, mistyped: `api_bse` and `api_base` are 0.93,
LiteLLM's `litellm_credential_name` and our `vertex_credentials` 0.63."""

_REASONS: Mapping[tuple[str, ...], Mapping[str, str]] = {
    (): {**litellm_keys.ROUTER, **litellm_keys.SECTIONS},
    ("model_list", ANY): litellm_keys.MODEL,
    ("model_list", ANY, "litellm_params"): litellm_keys.PARAMS,
    ("model_list", ANY, "model_info"): litellm_keys.MODEL_INFO,
    ("router_settings",): litellm_keys.ROUTER,
    ("tiers", ANY): litellm_keys.TIER,
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
    for key, inner in value.items():
        otherwise = litellm_keys.SECTIONS[str(path[0])]
        reason = "says nothing; remove it" if inner is None else reasons.get(key, otherwise)
        yield Mistake((*path, key), reason)


def _why_refused(path: KeyPath) -> str:
    key = str(path[-1])
    section = _section(path[:-1])
    if reason := _REASONS.get(section, {}).get(key):
        return reason
    if place := _belongs(key, section):
        return f"stands in the wrong place; move it {place}"
    known = set(SECTIONS[section].model_fields) if section in SECTIONS else set[str]()
    is_mistyped = get_close_matches(key, known, n=1, cutoff=_TYPO)
    otherwise = None if is_mistyped else _otherwise(key, section)
    return otherwise or f"is no key here; {nearest(key, known)}"


def _otherwise(key: str, section: tuple[str, ...]) -> str | None:
    """What is said of any other key of LiteLLM's."""
    match section:
        case ("router_settings",):
            return litellm_keys.ROUTER_OTHERWISE + _listed(RouterSection.model_fields)
        case ("model_list", _, "model_info"):
            return litellm_keys.MODEL_INFO_OTHERWISE + _listed(ModelInfoSection.model_fields)
        case ("model_list", _, "litellm_params") if "_cost" in key:
            return litellm_keys.PRICE_OTHERWISE + _listed(ParamsSection.RATE_BY_KEY)
        case ("model_list", _, "litellm_params"):
            return litellm_keys.PARAMS_OTHERWISE
    return None


def _belongs(key: str, section: tuple[str, ...]) -> str | None:
    """Where *key*, which *section* does not take, is one."""
    match section:
        case () if key in RouterSection.model_fields:
            return "under router_settings"
        case ("model_list", _) if key in ParamsSection.model_fields:
            return "into litellm_params"
        case ("model_list", _, "model_info") if key in ParamsSection.RATE_BY_KEY:
            return "into litellm_params"
        case ("model_list", _, "litellm_params") if key in ModelSection.model_fields:
            return "beside litellm_params"
    return None


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


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))

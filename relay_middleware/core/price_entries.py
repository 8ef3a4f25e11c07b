"""
Where prices come from: LiteLLM's table and the operator's configuration, read into exact rates.

What cannot be priced by the token is unpriced, in words or by None, and never zero by omission.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

from relay_middleware.core.money import EXACT
from relay_middleware.core.price_keys import RATE_BY_KEY, TOKEN_RATE, Beyond, beyond_tokens, usd
from relay_middleware.core.pricing import (
    INPUT_RATES,
    PARENT_BY_RATE,
    PARTS,
    ModelPrice,
    RateCard,
    Rates,
    rate_of,
)

_MODES_WITHOUT_OUTPUT = frozenset({"embedding", "moderation"})

# These bill the higher rate from the threshold on, all others above it.
# Source: LiteLLM 1.106.2, `llm_cost_calc/utils.py`, `_INCLUSIVE_THRESHOLD_PROVIDERS`.
_PROVIDERS_WITH_INCLUSIVE_THRESHOLDS = frozenset({"xai"})

_REGION = re.compile(r"[a-z]{2}")
"""A key of Anthropic's factors that is a place (`us`). Others are modes that a request asks for by
members that are not passed on (`fast`).
Source: LiteLLM 1.106.2, `llm_cost_calc/utils.py`, `get_provider_specific_geo_multiplier`."""

_TOKENS_PER_MILLION = Decimal(1_000_000)

_Cell = tuple[str | None, int]
"""A service tier (None: standard) and a threshold in input tokens (-1: from the first one on)."""
_BASE = -1


def from_litellm_entry(entry: Mapping[str, object]) -> ModelPrice | None:
    """
    Read one entry of LiteLLM's price table, decoded with `parse_float=Decimal`.

    A threshold's or service tier's rates may leave parts out. What they leave out costs the dearer
    of what it costs in the standard tier and below the threshold. But where input (or output) has a
    price of its own there, a part of it that was cheaper than it costs what it does: how much
    cheaper the part is there, nobody said.

    Returns:
        None where not everything is known: no rate per token for input or output, or a price of
        something that any answer may have and no count of tokens tells, such as prices by time or
        range, fees per request, and pictures. A rate of zero is a rate.
    """
    beyond = beyond_tokens(entry)
    if beyond is Beyond.ANSWER:
        return None
    named = _named_rates(entry)
    standard = named.get((None, _BASE), {})
    if entry.get("mode") in _MODES_WITHOUT_OUTPUT:
        standard.setdefault("output_usd", Decimal(0))
    if "input_usd" not in standard or "output_usd" not in standard:
        return None
    service_tiers = sorted({tier for tier, _ in named if tier is not None})
    price = _with_limits(
        ModelPrice(
            standard=_card(named, None),
            by_service_tier={tier: _card(named, tier) for tier in service_tiers},
            is_media_priced=beyond is Beyond.NOTHING,
        ),
        entry,
    )
    regions = {name: multiplied(price, factor) for name, factor in _factors_by_region(entry)}
    return replace(price, by_region=regions)


def _with_limits(price: ModelPrice, entry: Mapping[str, object]) -> ModelPrice:
    return replace(
        price,
        max_input_tokens=_positive(entry.get("max_input_tokens")),
        max_output_tokens=_positive(entry.get("max_output_tokens")),
        may_reason=bool(entry.get("supports_reasoning")),
    )


def _factors_by_region(entry: Mapping[str, object]) -> Iterable[tuple[str, Decimal]]:
    factors = entry.get("provider_specific_entry")
    for name, value in factors.items() if isinstance(factors, Mapping) else ():
        factor = usd(value)
        if factor is not None and _REGION.fullmatch(name):
            yield name, factor


def multiplied(price: ModelPrice, factor: Decimal) -> ModelPrice:
    """Return *price* with all of its rates multiplied, exactly."""
    return replace(
        price,
        standard=_multiplied(price.standard, factor),
        by_service_tier={
            tier: _multiplied(card, factor) for tier, card in price.by_service_tier.items()
        },
        by_region={name: multiplied(each, factor) for name, each in price.by_region.items()},
    )


def _multiplied(card: RateCard, factor: Decimal) -> RateCard:
    def times(rates: Rates) -> Rates:
        named = {part.rate: getattr(rates, part.rate) for part in PARTS}
        return Rates(
            **{
                name: EXACT.multiply(rate, factor)
                for name, rate in named.items()
                if rate is not None
            }
        )

    return RateCard(
        base=times(card.base), above=tuple((tokens, times(rates)) for tokens, rates in card.above)
    )


def override(
    price: ModelPrice | None,
    rates_usd: Mapping[str, Decimal],
    *,
    entry: Mapping[str, object] | None = None,
) -> ModelPrice:
    """
    Return *price* with the configured rates in place of its own.

    A named rate holds for every service tier, region and length of prompt. What is not named stays
    as it is, so that naming the input's price does not lose the cached input's.

    Args:
        price: The table's, or None where it has none.
        rates_usd: US dollars per token, by field of `Rates`.
        entry: What the table says of the model all the same, such as its limits.

    Raises:
        ValueError: There is no price, and input or output are not named.
    """
    if price is None:
        missing = [
            part.litellm_key for part in PARTS if part.parent is None and part.rate not in rates_usd
        ]
        if missing:
            keys = " and ".join(missing)
            raise ValueError(f"{keys} must be set too: the price table has no such model")
        return _with_limits(ModelPrice(standard=RateCard(base=Rates(**rates_usd))), entry or {})
    return replace(
        price,
        standard=_overridden(price.standard, rates_usd),
        by_service_tier={
            tier: _overridden(card, rates_usd) for tier, card in price.by_service_tier.items()
        },
        by_region={name: override(each, rates_usd) for name, each in price.by_region.items()},
    )


def _overridden(card: RateCard, rates_usd: Mapping[str, Decimal]) -> RateCard:
    return RateCard(
        base=replace(card.base, **rates_usd),
        above=tuple(
            (threshold_tokens, replace(rates, **rates_usd))
            for threshold_tokens, rates in card.above
        ),
    )


_IMPLAUSIBLE_FACTOR = 1000
"""A price per thousand or per million tokens written as one per token is off by at least this."""


def implausible_price(rates_usd: Mapping[str, Decimal], known: Iterable[Rates]) -> str | None:
    """
    Say which configured rate differs from every known one by a factor of 1,000 or more.

    Args:
        rates_usd: As configured, US dollars per token by field of `Rates`.
        known: The price table's rates for the model; where it has none, those of all chat models.

    Returns:
        A sentence with both numbers, in US dollars per million tokens; None where all rates are
        plausible or zero, or there is nothing to compare them with.
    """
    references = tuple(known)
    for name, rate in sorted(rates_usd.items()):
        others = [rate_of(rates, name) for rates in references if rate_of(rates, name) > 0]
        if rate == 0 or not others:
            continue
        nearest = min(others) if rate < min(others) else max(others)
        if rate >= nearest * _IMPLAUSIBLE_FACTOR or nearest >= rate * _IMPLAUSIBLE_FACTOR:
            return (
                f"{name} is {_per_million(rate)} USD per million tokens,"
                f" and the nearest price known is {_per_million(nearest)}"
            )
    return None


def _named_rates(entry: Mapping[str, object]) -> dict[_Cell, dict[str, Decimal]]:
    is_inclusive = entry.get("litellm_provider") in _PROVIDERS_WITH_INCLUSIVE_THRESHOLDS
    named: dict[_Cell, dict[str, Decimal]] = {}
    for key, value in entry.items():
        match = TOKEN_RATE.fullmatch(key)
        rate = usd(value)
        if match is None or rate is None:
            continue
        litellm_key, thousands, tier = match.groups()
        threshold = _BASE if thousands is None else int(thousands) * 1000 - is_inclusive
        named.setdefault((tier, threshold), {})[RATE_BY_KEY[litellm_key]] = rate
    return named


def _card(named: Mapping[_Cell, Mapping[str, Decimal]], tier: str | None) -> RateCard:
    """
    The rates of *tier*, below and above each threshold that it or the standard tier has.

    Each cell takes what it leaves out from the cell before it (a lower threshold) and from the
    standard tier's at the same threshold.
    """
    thresholds = sorted({threshold for name, threshold in named if name in (None, tier)} | {_BASE})
    standard = () if tier is None else _steps(_card(named, None))
    steps: list[tuple[int, Rates]] = []
    for threshold in thresholds:
        refined = [rates for at, rates in standard if at <= threshold][-1:]
        refined += [rates for _, rates in steps[-1:]]
        steps.append((threshold, _complete(named.get((tier, threshold), {}), refined)))
    return RateCard(base=steps[0][1], above=tuple(steps[1:]))


def _steps(card: RateCard) -> tuple[tuple[int, Rates], ...]:
    return ((_BASE, card.base), *card.above)


def _complete(named: Mapping[str, Decimal], refined: Sequence[Rates]) -> Rates:
    """Fill in what *named* leaves out from the rates that it refines."""
    basis = {
        name: named[name] if name in named else max(getattr(rates, name) for rates in refined)
        for name in ("input_usd", "output_usd")
    }
    rates = Rates(**{**basis, **named})
    for name in PARENT_BY_RATE:
        inherited = None if name in named else _inherited(name, named, rates, refined)
        if inherited is not None:
            rates = replace(rates, **{name: inherited})
    return rates


def _inherited(
    name: str, named: Mapping[str, Decimal], rates: Rates, refined: Sequence[Rates]
) -> Decimal | None:
    """
    What part *name*, which is not named, costs apart from its parent; None where it does not.

    It keeps its rates where its whole side is not priced anew; else only those that are dearer than
    the parent's.
    """
    whole = "input_usd" if name in INPUT_RATES else "output_usd"
    if whole not in named:
        is_apart = any(getattr(other, name) is not None for other in refined)
        return max(rate_of(other, name) for other in refined) if is_apart else None
    parent = PARENT_BY_RATE[name]
    dearer = [
        rate_of(other, name)
        for other in refined
        if rate_of(other, name) > max(rate_of(other, parent), rate_of(rates, parent))
    ]
    return max(dearer, default=None)


def _positive(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        return None
    return value


def _per_million(rate_usd: Decimal) -> str:
    return f"{EXACT.multiply(rate_usd, _TOKENS_PER_MILLION).normalize():f}"
